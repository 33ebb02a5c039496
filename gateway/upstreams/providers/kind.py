"""What is peculiar to a kind of server; each kind's file says it once."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from gateway.upstreams.capabilities import Capabilities
from gateway.wire.shapes import Body
from gateway.wire.structured_outputs import as_response_format

Engine = Literal["openai", "llamacpp", "vllm", "mistral", "deepseek"]


def unchanged(body: Body, continues: bool) -> Body:
    return body


Post = Callable[[str, Body], Awaitable[Body]]
"""Posts a body to a page that stands beside `/v1`, by its name, and gives the answer."""


class Tokenizer(NamedTuple):
    """How a server tells tokens: both take a request in vLLM's shape, and give the answer in it."""

    tokenize: Callable[[Post, Body], Awaitable[Body]]
    detokenize: Callable[[Post, Body], Awaitable[Body]]


class Spelled(NamedTuple):
    """A text as a model's tokens: their ids, and the bytes that each of them stands for."""

    ids: Sequence[int]
    pieces: Sequence[bytes]


class Scorer(NamedTuple):
    """How a server tells how likely its model finds each token of a text that nobody chats. What is posted says no
    model: whoever posts adds it. Raises what posting raises, and Garbage for an answer of another shape."""

    spell: Callable[[Post, str], Awaitable[Spelled]]
    """A text's tokens, and first and last what special ones the model would have there."""
    logprobs: Callable[[Post, Sequence[int], int], Awaitable[Sequence[float]]]
    """Natural log-probabilities of the ids from a place on, 1 or more: each after all that stand before it."""
    window: int | None = None
    """Most ids that are read at once; None: as many as the model's context holds."""


class Kind(NamedTuple):
    """`capabilities` are those of a model at a base URL. A capability that only requests ask for is taken to be
    there unless the kind is known to lack it, for the server refuses best; one that the gateway would use by
    itself is taken to be there only where it is known.
    """

    capabilities: Callable[[str, str], Capabilities]
    adapted: Callable[[Body, bool], Body] = unchanged
    """An OpenAI body as this kind wants it; the flag says that it ends in a begun answer."""
    rewrites: frozenset[str] = frozenset()
    """Fields for whose sake a request that begins no answer needs adapting."""
    constrained: Callable[[Body], Body] = as_response_format
    """A body with what it knows instead of `structured_outputs`, where it does not know that."""
    ignores: frozenset[str] = frozenset()
    """Fields of `gateway.wire.vendor_fields.SPECIAL` that it leaves unheeded, in silence."""
    strict: Callable[[str], bool] = lambda url: False
    """Whether the server at a base URL refuses whatever OpenAI's API does not have."""
    removed: Mapping[str, str] = MappingProxyType({})
    """Fields that it once knew and ignores now, and what to send instead."""
    renormalises: bool = False
    """Whether its log-probabilities are of what a constraint (a schema, a grammar) leaves, not of all tokens."""
    echoes: bool = False
    """Whether a plain chat answer to a request that begins one has that beginning in it; streams never do."""
    keep_alive: bool = True
    """Whether connections it says it keeps are kept."""
    tokenizer: Tokenizer | None = None
    """How it tells tokens; None where it does not."""
    scorer: Scorer | None = None
    """How it tells the log-probabilities of a text's tokens; None where it does not."""
    health: Callable[[str], str] = lambda url: f"{url}/models"
    """A page below the base URL that costs nothing, and is answered with a status under 500 while it works."""
    context: tuple[str, ...] = ("context_length",)
    """Where a model's entry in its `/models` tells the context, if it does: keys, outermost first."""


def root_health(url: str) -> str:
    """Of servers whose health page stands beside `/v1`."""
    return f"{url.removesuffix('/v1')}/health"


def continuing(body: Body) -> Body:
    """With `prefix: true` on a begun answer, as Mistral and DeepSeek want it."""
    if "messages" not in body:
        return body
    *before, begun = body["messages"]
    return {**body, "messages": [*before, {**begun, "prefix": True}]}
