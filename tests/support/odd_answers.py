"""Hypothesis strategies of what servers send otherwise than OpenAI: usages, and JSON texts."""

import json
from typing import Any, NamedTuple

from hypothesis import strategies as st

COUNT = st.integers(0, 20_000)

NO_COUNT = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.integers(max_value=-1),
    st.integers(min_value=10**10),
    st.just(10**999),
    st.text(max_size=6),
    st.lists(COUNT, max_size=2),
    st.dictionaries(st.sampled_from(["cached_tokens", "x"]), COUNT, max_size=1),
)
"""What is no number of tokens, and much that only looks like one."""

USAGE_KEYS = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "input_tokens",
    "output_tokens",
    "prompt_cache_hit_tokens",
    "prompt_cache_miss_tokens",
    "cached_tokens",
    "cache_read_input_tokens",
    "cost",
    "cost_in_usd_ticks",
    "is_byok",
    "cost_details",
    "prompt_tokens_details",
    "completion_tokens_details",
)

ANY_USAGE = st.dictionaries(st.sampled_from(USAGE_KEYS), NO_COUNT | COUNT, max_size=8) | NO_COUNT
"""A usage as bad as it can be."""


class TrueUsage(NamedTuple):
    """What a call really read and wrote. `reasoning` is a part of `completion`."""

    prompt: int
    completion: int
    cached: int
    reasoning: int


@st.composite
def true_usages(draw: st.DrawFn) -> TrueUsage:
    prompt, completion = draw(st.integers(1, 20_000)), draw(st.integers(1, 20_000))
    return TrueUsage(prompt, completion, draw(st.integers(0, prompt)), draw(st.integers(0, completion)))


def openai(usage: TrueUsage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def xai(usage: TrueUsage) -> dict[str, Any]:
    """The completion's tokens are without the reasoning, the total is not."""
    return openai(usage) | {"completion_tokens": usage.completion - usage.reasoning}


def gemini(usage: TrueUsage) -> dict[str, Any]:
    """The same, and no count of an answer that is all reasoning."""
    counts = {"prompt_tokens": usage.prompt, "total_tokens": usage.prompt + usage.completion}
    visible = usage.completion - usage.reasoning
    details = {"prompt_tokens_details": {"cached_tokens": usage.cached}}
    return counts | details | ({"completion_tokens": visible} if visible else {})


def deepseek(usage: TrueUsage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_cache_hit_tokens": usage.cached,
        "prompt_cache_miss_tokens": usage.prompt - usage.cached,
    }


def kimi(usage: TrueUsage) -> dict[str, Any]:
    counts = {"prompt_tokens": usage.prompt, "completion_tokens": usage.completion}
    return counts | {"total_tokens": usage.prompt + usage.completion, "cached_tokens": usage.cached}


def mlx(usage: TrueUsage) -> dict[str, Any]:
    """mlx-vlm's names."""
    counts = {"input_tokens": usage.prompt, "output_tokens": usage.completion}
    details = {"input_tokens_details": {"cached_tokens": usage.cached}}
    return counts | details | {"total_tokens": usage.prompt + usage.completion, "prompt_tps": 81.5}


def anthropic(usage: TrueUsage) -> dict[str, Any]:
    """The prompt is without what the cache had of it."""
    counts = {"input_tokens": usage.prompt - usage.cached, "output_tokens": usage.completion}
    return counts | {"cache_read_input_tokens": usage.cached, "cache_creation_input_tokens": 0}


DIALECTS = (openai, xai, gemini, deepseek, kimi, mlx, anthropic)


def as_strings(usage: Any) -> Any:
    """All numbers of a usage as strings."""
    if isinstance(usage, dict):
        return {key: as_strings(value) for key, value in usage.items()}
    return str(usage) if isinstance(usage, int) else usage


TEXTS = st.text(st.characters(categories=["L", "N", "P", "Zs", "Cs"]) | st.sampled_from('\\"😀\ud83d\ude00'))
"""Texts with lone halves of surrogate pairs."""

NUMBERS = st.integers(-(10**30), 10**30) | st.floats(allow_nan=True, allow_infinity=True)

ODD_VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
)
"""Values whose JSON, as Python's encoder writes it, is not always JSON."""


def write_odd_json(value: Any) -> bytes:
    return json.dumps(value).encode()
