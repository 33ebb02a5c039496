"""The type that describes a kind of server. Each provider's file defines one instance."""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from gateway.upstreams.capabilities import Capabilities
from gateway.wire.body_types import Body
from gateway.wire.structured_outputs import to_response_format

Engine = Literal["openai", "llamacpp", "vllm", "mistral", "deepseek"]


def keep_body(body: Body, continues: bool) -> Body:
    return body


Post = Callable[[str, Body], Awaitable[Body]]
"""Posts a body to a page beside `/v1`, given the page's name, and returns the answer."""


class Tokenizer(NamedTuple):
    """Tokenizes and detokenizes through a server. Requests and answers have vLLM's shape."""

    tokenize: Callable[[Post, Body], Awaitable[Body]]
    detokenize: Callable[[Post, Body], Awaitable[Body]]


class TokenizedText(NamedTuple):
    """The tokens of a text: their ids, and the bytes of each token."""

    ids: Sequence[int]
    pieces: Sequence[bytes]


class Scorer(NamedTuple):
    """Scores the tokens of a text, without a chat template, through a server. The posted bodies lack `model`,
    which the `Post` function adds."""

    tokenize_text: Callable[[Post, str], Awaitable[TokenizedText]]
    """Returns the tokens of a text, with the special tokens that the model puts before and after it."""
    logprobs: Callable[[Post, Sequence[int], int], Awaitable[Sequence[float]]]
    """Returns the natural log-probability of each id from index `after` on (at least 1), given all ids before
    it."""
    window: int | None = None
    """Maximum number of ids per call; None means the model's context length."""


class ServerKind(NamedTuple):
    """Describes a kind of server: its capabilities, and how its API differs from OpenAI's."""

    capabilities: Callable[[str, str], Capabilities]
    """Returns the default capabilities of a model at a base URL.

    A capability that only requests use is true unless the kind is known to lack it, since the server gives
    the best refusal. A capability that the gateway uses on its own is true only if the kind is known to have
    it.
    """
    adapt_body: Callable[[Body, bool], Body] = keep_body
    """Adapts an OpenAI body to this kind. The flag says whether the body ends in a partial answer to
    continue."""
    rewritten_fields: frozenset[str] = frozenset()
    """Fields that require adapting even if the request has no partial answer."""
    adapt_constraint: Callable[[Body], Body] = to_response_format
    """Replaces `structured_outputs` in a body by fields that this kind supports, if it lacks that one."""
    ignored_fields: frozenset[str] = frozenset()
    """Fields of `gateway.wire.vendor_fields.ANSWER_CHANGING` that it silently ignores."""
    is_strict: Callable[[str], bool] = lambda url: False
    """Returns whether the server at a base URL rejects fields that OpenAI's API does not have."""
    removed_fields: Mapping[str, str] = MappingProxyType({})
    """Fields that it used to support and now ignores, each with its replacement."""
    max_alternatives: float = math.inf
    """Maximum size of the answer's grammar, as `gateway.upstreams.providers.grammar_size` counts it."""
    renormalises: bool = False
    """Whether log-probabilities are normalised over the tokens that a constraint (schema, grammar) allows,
    not over all tokens."""
    echoes_prefill: bool = False
    """Whether a chat answer that is not streamed repeats the partial answer of its request. Streams never
    do."""
    keep_alive: bool = True
    """Whether the server really keeps the connections that it announces to keep."""
    tokenizer: Tokenizer | None = None
    """Access to its tokenizer; None if it offers none."""
    shows_tools: Callable[[Post], Awaitable[bool]] | None = None
    """Returns whether the model's chat template shows a request's tools to the model; None if the kind offers no
    way to know. Raises TransportError if the server does not tell."""
    scorer: Scorer | None = None
    """Access to log-probabilities of a given text; None if it offers none."""
    health_url: Callable[[str], str] = lambda url: f"{url}/models"
    """Returns the URL of a free page, given the base URL. A status below 500 means that the server works."""
    context_path: tuple[str, ...] = ("context_length",)
    """Keys, outermost first, of the context length in a model's entry in `/models`."""


def build_root_health_url(url: str) -> str:
    """Return the URL of a health page that stands beside `/v1`."""
    return f"{url.removesuffix('/v1')}/health"


def mark_prefix(body: Body) -> Body:
    """Set `prefix: true` on the partial answer, which Mistral and DeepSeek require."""
    if "messages" not in body:
        return body
    *before, beginning = body["messages"]
    return {**body, "messages": [*before, {**beginning, "prefix": True}]}
