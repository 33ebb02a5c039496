"""What a server's `usage` object says, whatever it calls the counts.

Nothing here raises: what is no count is as if it had not been reported.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from gateway.wire.body_types import Body
from routers.plan import Usage

MAX_COUNT = 10**9
"""A larger number is no count: no call reads or writes that many tokens."""
MAX_COST_USD = 1e6
TICKS_PER_USD = 1e10

COMPLETION_NAMES = ("completion_tokens", "output_tokens")
"""The second names are those of mlx-vlm, of Anthropic, and of OpenAI's Responses API."""
PROMPT_DETAILS = ("prompt_tokens_details", "input_tokens_details")
COMPLETION_DETAILS = ("completion_tokens_details", "output_tokens_details")
CACHED_NAMES = ("prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens")
"""Names of the cached tokens beside the details, where OpenAI has them: DeepSeek's, Moonshot's and Anthropic's."""


class ReportedUsage(NamedTuple):
    """What a server reported of one call. None: it did not, or what it said is no count."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0
    accepted: int = 0
    rejected: int = 0
    cost_usd: float | None = None

    @property
    def has_counts(self) -> bool:
        """Whether a number of tokens was reported, or a cost."""
        return (self.prompt_tokens, self.completion_tokens, self.cost_usd) != (None, None, None)

    def to_usage(self, prompt_tokens: int, written: int) -> Usage:
        """Return the usage of a call. The arguments are estimates, and stand for what was not reported.

        Zero is not believed where the estimate is more: servers report it for a call that they have not counted.
        """
        prompt = self.prompt_tokens or prompt_tokens
        completion = self.completion_tokens or written
        accepted = min(self.accepted, completion)
        return Usage(
            prompt,
            completion,
            min(self.cached_tokens, prompt),
            estimated=prompt != (self.prompt_tokens or 0) or completion != (self.completion_tokens or 0),
            accepted=accepted,
            rejected=min(self.rejected, completion - accepted),
        )


NOTHING_REPORTED = ReportedUsage()


def parse_usage(usage: Body) -> ReportedUsage:
    """Return what a `usage` object reports. xAI and Gemini leave the reasoning out of the completion's tokens, but not
    out of the total."""
    prompt, cached = _read_prompt(usage), _read_cached(usage)
    completion = _first_count(usage, COMPLETION_NAMES)
    total = _read_count(usage.get("total_tokens"))
    if prompt is not None and total is not None and prompt < cached <= total - prompt:
        prompt += cached  # counted without what the cache has of it
    if total is not None and prompt is not None and total >= prompt:
        completion = max(completion or 0, total - prompt)
    elif total is not None and completion is not None and prompt is None and total >= completion:
        prompt = total - completion
    return ReportedUsage(
        prompt,
        completion,
        cached,
        read_detail(usage, COMPLETION_DETAILS, "accepted_prediction_tokens"),
        read_detail(usage, COMPLETION_DETAILS, "rejected_prediction_tokens"),
        _read_cost(usage),
    )


def to_openai_usage(usage: Body, reported: ReportedUsage) -> Body:
    """Return a usage with OpenAI's three counts as `reported` in all, and details that hold counts only.

    A usage that has them is unchanged.
    """
    prompt, completion = reported.prompt_tokens or 0, reported.completion_tokens or 0
    clean = {
        **usage,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    for key in (*PROMPT_DETAILS, *COMPLETION_DETAILS):
        if isinstance(details := usage.get(key), dict):
            clean[key] = _keep_counts(details)
        elif details is not None:
            del clean[key]
    return clean


def _keep_counts(details: Body) -> dict[str, int]:
    return {name: count for name, value in details.items() if (count := _read_count(value)) is not None}


def _read_prompt(usage: Body) -> int | None:
    if (prompt := _read_count(usage.get("prompt_tokens"))) is not None:
        return prompt
    if (prompt := _read_count(usage.get("input_tokens"))) is not None:
        # Anthropic's name, with Anthropic's meaning if these are there: the prompt without what the cache has of it.
        beside = ("cache_read_input_tokens", "cache_creation_input_tokens")
        return prompt + sum(_read_count(usage.get(name)) or 0 for name in beside)
    hit, missed = (_read_count(usage.get(f"prompt_cache_{name}_tokens")) for name in ("hit", "miss"))
    return None if hit is None or missed is None else hit + missed


def _read_cached(usage: Body) -> int:
    in_details = read_detail(usage, PROMPT_DETAILS, "cached_tokens")
    return max([in_details, *[_read_count(usage[name]) or 0 for name in CACHED_NAMES if name in usage]])


def read_detail(usage: Body, details: Iterable[str], name: str) -> int:
    """Return a count from the details of the prompt's or the completion's tokens; 0 if there is none."""
    counts = [_read_count(read_path(usage, key, name)) or 0 for key in details if key in usage]
    return max(counts, default=0)


def _read_cost(usage: Body) -> float | None:
    """Return the dollars that a call cost: OpenRouter's `cost`, Perplexity's, xAI's.

    With a key of one's own at the provider OpenRouter's is only its fee.
    """
    cost = usage.get("cost")
    if isinstance(cost, dict):
        cost = cost.get("total_cost")
    dollars = _read_dollars(cost)
    if dollars is not None and usage.get("is_byok") is True:
        dollars += _read_dollars(read_path(usage, "cost_details", "upstream_inference_cost")) or 0.0
    return _read_dollars(usage.get("cost_in_usd_ticks"), TICKS_PER_USD) if dollars is None else dollars


def _first_count(usage: Body, names: Iterable[str]) -> int | None:
    return next((count for name in names if (count := _read_count(usage.get(name))) is not None), None)


def _read_count(value: Any) -> int | None:
    """Return a number of tokens; None if the value is none. Some servers write numbers as strings."""
    if type(value) is int:  # nearly always
        return value if 0 <= value <= MAX_COUNT else None
    if isinstance(value, str) and len(value) <= len(str(MAX_COUNT)) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if _is_count(value) else None


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


def _read_dollars(value: Any, per_dollar: float = 1.0) -> float | None:
    try:
        dollars = float(value) / per_dollar if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return None
    return dollars if 0.0 <= dollars <= MAX_COST_USD and not isinstance(value, bool) else None


def read_path(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
