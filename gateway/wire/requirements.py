"""What a request requires of the upstream that answers it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from routers.plan import Capability

from .body_types import Body, Endpoint
from .structured_outputs import structured_output_capabilities
from .vendor_fields import TOKEN_ID_FIELDS


class Requirements(NamedTuple):
    """Requirements of one request on an upstream.

    `top_logprobs` is the number of alternatives per token. `tokens` is a lower bound on the prompt's
    tokens, 0 if not counted. `model` is the only model that may answer, if the request names one.
    `vendor_fields` are the request's fields in `gateway.wire.vendor_fields.ANSWER_CHANGING`. `surprisal`: the
    upstream must return log-probabilities of a given text. `alternatives` is the size of the answer's grammar, 0 if it
    is certainly small.
    """

    capabilities: frozenset[Capability] = frozenset()
    top_logprobs: int = 0
    tokens: int = 0
    model: str | None = None
    vendor_fields: frozenset[str] = frozenset()
    surprisal: bool = False
    alternatives: int = 0


NO_REQUIREMENTS = Requirements()

CAPABILITY_FIELDS = frozenset(
    {
        "tools",
        "functions",
        "response_format",
        "n",
        *TOKEN_ID_FIELDS,
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

PART_CAPABILITIES: dict[str, Capability] = {"image_url": "vision", "input_audio": "audio"}
"""The capability that each type of message part requires."""

ENDPOINT_CAPABILITIES: dict[Endpoint, frozenset[Capability]] = {
    "chat": frozenset(),
    "completions": frozenset({"completions"}),
    "embeddings": frozenset({"embeddings"}),
}


def capabilities_of(body: Body, endpoint: Endpoint) -> frozenset[Capability]:
    """Return the capabilities that a validated body requires beyond plain text."""
    capabilities = ENDPOINT_CAPABILITIES[endpoint]
    if endpoint == "embeddings":
        return capabilities  # fields that shape a written answer mean nothing here: the upstream judges them
    if not CAPABILITY_FIELDS.isdisjoint(body):
        capabilities |= frozenset(_field_capabilities(body))
    if endpoint == "chat":
        for message in body["messages"]:
            if isinstance(message.get("content"), list):
                return capabilities | _part_capabilities(body)
    return capabilities


def _part_capabilities(body: Body) -> frozenset[Capability]:
    kinds = [_type_of(part) for part in _content_parts(body)]
    return frozenset(capability for kind, capability in PART_CAPABILITIES.items() if kind in kinds)


def _field_capabilities(body: Body) -> Iterator[Capability]:
    if body.get("tools") or body.get("functions"):
        yield "tools"
    if any(_type_of(tool) == "custom" for tool in body.get("tools") or ()):
        yield "custom_tools"
    if _type_of(body.get("response_format")) == "json_schema":
        yield "json_schema"
    if (body.get("n") or 1) != 1:
        yield "choices"
    if any(body.get(name) for name in TOKEN_ID_FIELDS):
        yield "logit_bias"
    if body.get("min_p"):
        yield "min_p"
    if body.get("logprobs") is not None and body["logprobs"] is not False:
        yield "logprobs"
    yield from structured_output_capabilities(body)
    modalities = body.get("modalities")
    if body.get("audio") or (isinstance(modalities, list) and "audio" in modalities):
        yield "audio"


def _content_parts(body: Body) -> list[Any]:
    """All parts of the messages whose content is a list."""
    contents = [message.get("content") for message in body["messages"]]
    return [part for content in contents if isinstance(content, list) for part in content]


def _type_of(value: Any) -> Any:
    return value.get("type") if isinstance(value, dict) else None


def top_logprobs_of(body: Body) -> int:
    """Alternatives per token that the client asks for. Chat has a field for it; in completions `logprobs` is
    the number."""
    logprobs = body.get("logprobs")
    if not logprobs:
        return 0
    return int(body.get("top_logprobs") or 0) if logprobs is True else int(logprobs)


def min_prompt_tokens(body: Body, endpoint: Endpoint) -> int:
    """Return a lower bound on the prompt's tokens for any tokenizer: its words, since no tokenizer in use
    joins words. Token ids, images and the template's own tokens are not counted."""
    if endpoint == "completions":
        texts = [body["prompt"]]
    elif endpoint == "chat":
        texts = [message.get("content") for message in body["messages"]]
        texts += [
            part["text"] for part in _content_parts(body) if _type_of(part) == "text" and "text" in part
        ]
    else:
        texts = []
    return sum(len(text.split()) for text in texts if isinstance(text, str))
