"""What a request requires of the upstream that answers it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from routers.plan import Capability

from .shapes import Body, Endpoint
from .structured_outputs import capabilities_for
from .vendor_fields import TOKEN_IDS


class Needs(NamedTuple):
    """Requirements of one request on an upstream.

    `top_logprobs` is the number of alternatives per token. `tokens` is a lower bound on the prompt's
    tokens, 0 if not counted. `model` is the only model that may answer, if the request names one.
    `vendor_fields` are the request's fields in `gateway.wire.vendor_fields.ANSWER_CHANGING`. `surprisal`: the
    upstream must return log-probabilities of a given text.
    """

    capabilities: frozenset[Capability] = frozenset()
    top_logprobs: int = 0
    tokens: int = 0
    model: str | None = None
    fields: frozenset[str] = frozenset()
    surprises: bool = False


NO_NEEDS = Needs()

TELLING = frozenset(
    {
        "tools",
        "functions",
        "response_format",
        "n",
        *TOKEN_IDS,
        "min_p",
        "logprobs",
        "top_logprobs",
        "audio",
        "modalities",
        "structured_outputs",
    }
)
"""Fields that may require more than plain text. `prediction` is not among them: a server that ignores it is
only slower."""

PARTS: dict[str, Capability] = {"image_url": "vision", "input_audio": "audio"}
"""The capability that each type of message part requires."""

OF_ENDPOINT: dict[Endpoint, frozenset[Capability]] = {
    "chat": frozenset(),
    "completions": frozenset({"completions"}),
    "embeddings": frozenset({"embeddings"}),
}


def capabilities_of(body: Body, endpoint: Endpoint) -> frozenset[Capability]:
    """Return the capabilities that a validated body requires beyond plain text."""
    found = OF_ENDPOINT[endpoint]
    if not TELLING.isdisjoint(body):
        found |= frozenset(_asked(body))
    if endpoint == "chat":
        for message in body["messages"]:
            if isinstance(message.get("content"), list):
                return found | _of_parts(body)
    return found


def _of_parts(body: Body) -> frozenset[Capability]:
    kinds = [_type_of(part) for part in _parts(body)]
    return frozenset(capability for kind, capability in PARTS.items() if kind in kinds)


def _asked(body: Body) -> Iterator[Capability]:
    if body.get("tools") or body.get("functions"):
        yield "tools"
    if _type_of(body.get("response_format")) == "json_schema":
        yield "json_schema"
    if (body.get("n") or 1) != 1:
        yield "choices"
    if any(body.get(name) for name in TOKEN_IDS):
        yield "logit_bias"
    if body.get("min_p"):
        yield "min_p"
    if body.get("logprobs") is not None and body["logprobs"] is not False:
        yield "logprobs"
    yield from capabilities_for(body)
    modalities = body.get("modalities")
    if body.get("audio") or (isinstance(modalities, list) and "audio" in modalities):
        yield "audio"


def _parts(body: Body) -> list[Any]:
    """All parts of the messages whose content is a list."""
    contents = [message.get("content") for message in body["messages"]]
    return [part for content in contents if isinstance(content, list) for part in content]


def _type_of(value: Any) -> Any:
    return value.get("type") if isinstance(value, dict) else None


def top_logprobs_of(body: Body) -> int:
    """Alternatives per token that the client asks for. Chat has a field for it; in completions `logprobs` is
    the number."""
    asked = body.get("logprobs")
    if not asked:
        return 0
    return int(body.get("top_logprobs") or 0) if asked is True else int(asked)


def least_tokens(body: Body, endpoint: Endpoint) -> int:
    """Return a lower bound on the prompt's tokens for any tokenizer: its words, since no tokenizer in use
    joins words. Token ids, images and the template's own tokens are not counted."""
    if endpoint == "completions":
        texts = [body["prompt"]]
    elif endpoint == "chat":
        texts = [message.get("content") for message in body["messages"]]
        texts += [part["text"] for part in _parts(body) if _type_of(part) == "text" and "text" in part]
    else:
        texts = []
    return sum(len(text.split()) for text in texts if isinstance(text, str))
