"""What a request needs of whoever is to answer it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from routers.plan import Capability

from .shapes import Body, Endpoint
from .structured_outputs import capabilities_for
from .vendor_fields import TOKEN_IDS


class Needs(NamedTuple):
    """`top_logprobs` is how many alternatives a token it asks for, `tokens` how many its prompt has at the very
    least (0 where nobody counted); `model` is the only model that may answer, where the request names one; `fields`
    are those of `gateway.wire.vendor_fields.SPECIAL` that it has; `surprises`: whether the log-probabilities of
    a text are to be told."""

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
"""Fields that may ask for more than text. `prediction` is none: a server that ignores it loses only speed."""

PARTS: dict[str, Capability] = {"image_url": "vision", "input_audio": "audio"}
"""What parts of a message need, by their type."""

OF_ENDPOINT: dict[Endpoint, frozenset[Capability]] = {
    "chat": frozenset(),
    "completions": frozenset({"completions"}),
    "embeddings": frozenset({"embeddings"}),
}


def capabilities_of(body: Body, endpoint: Endpoint) -> frozenset[Capability]:
    """What a checked body asks for beside text."""
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
    """What the messages are made of, where they come in parts."""
    contents = [message.get("content") for message in body["messages"]]
    return [part for content in contents if isinstance(content, list) for part in content]


def _type_of(value: Any) -> Any:
    return value.get("type") if isinstance(value, dict) else None


def top_logprobs_of(body: Body) -> int:
    """Alternatives a token that the client asks for: chat has a field for it, completions the number itself."""
    asked = body.get("logprobs")
    if not asked:
        return 0
    return int(body.get("top_logprobs") or 0) if asked is True else int(asked)


def least_tokens(body: Body, endpoint: Endpoint) -> int:
    """A prompt has no fewer tokens than this, whichever the tokenizer: none in use joins words. Token ids,
    images and what templates add are not counted."""
    if endpoint == "completions":
        texts = [body["prompt"]]
    elif endpoint == "chat":
        texts = [message.get("content") for message in body["messages"]]
        texts += [part["text"] for part in _parts(body) if _type_of(part) == "text" and "text" in part]
    else:
        texts = []
    return sum(len(text.split()) for text in texts if isinstance(text, str))
