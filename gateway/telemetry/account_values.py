"""Replaces values that a record or a metric cannot hold, whatever an upstream or a client sent."""

import json
from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any

import orjson

from gateway.exchange.call import Call
from gateway.exchange.exchange import Exchange
from policies.records.schema import MAX_COUNT
from routers.plan import Usage

MAX_FINISH_CHARS = 64
"""Maximum characters of a finish reason in a record."""
MAX_LOGPROB = 1e300
"""Maximum magnitude of a log-probability: sums of these are finite."""
MAX_INTEGER_BITS = 14_000
"""Bits of an integer that JSON readers still read: Python's own refuses more than 4,300 digits."""


def clean_account(exchange: Exchange) -> None:
    """Replace odd finish reasons by text and odd counts by estimates, and compute the costs of these calls again.

    Most exchanges have none, so the test comes first and is cheap."""
    odd = [call for call in exchange.calls if not _is_clean(call)]
    if odd:
        for call in odd:
            _clean(call)
        exchange.account()


def _is_clean(call: Call) -> bool:
    prompt, completion, cached, _, accepted, rejected = call.usage
    finish = call.finish
    return (
        (finish is None or (type(finish) is str and len(finish) <= MAX_FINISH_CHARS))
        and type(prompt) is type(completion) is type(cached) is type(accepted) is type(rejected) is int
        and 0 <= prompt <= MAX_COUNT
        and 0 <= completion <= MAX_COUNT
        and 0 <= cached <= MAX_COUNT
        and 0 <= accepted <= MAX_COUNT
        and 0 <= rejected <= MAX_COUNT
    )


def _clean(call: Call) -> None:
    if call.finish is not None:
        call.finish = str(to_encodable(call.finish))[:MAX_FINISH_CHARS]
    if not all(_is_count(count) for count in _list_counts(call.usage)):
        call.settle(call.started + call.seconds, None)


def _list_counts(usage: Usage) -> list[object]:
    return [*usage[:3], *usage[4:]]


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


def are_finite(logprobs: Iterable[float | None], top: Iterable[Sequence[float]]) -> bool:
    """Return whether all log-probabilities of a draft are finite numbers, or None for a token without one."""
    try:
        return isfinite(sum([value for value in logprobs if value is not None])) and isfinite(
            sum(map(sum, top))
        )
    except (TypeError, OverflowError):
        return False


def to_logprob(value: object) -> float | None:
    """Return a log-probability, or None if the value is none."""
    is_number = type(value) in (int, float) and -MAX_LOGPROB <= value <= MAX_LOGPROB  # type: ignore[operator]
    return float(value) if is_number else None  # type: ignore[arg-type]


def keep_logprobs(values: Iterable[object]) -> list[float]:
    """Return the values that are log-probabilities."""
    return [number for value in values if (number := to_logprob(value)) is not None]


def encode_compact(line: dict[str, Any]) -> bytes:
    """Return a line as JSON, in a copy of exactly its size: orjson's own result keeps a buffer several times as large,
    and many lines are kept."""
    return bytes(memoryview(encode(line)))


def encode(value: Any) -> bytes:
    """Return a value as JSON. What orjson cannot encode is replaced, but for long integers, which keep their digits."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(to_encodable(value), ensure_ascii=False, separators=(",", ":")).encode()


def to_encodable(value: Any) -> Any:
    """Return a value without what JSON cannot hold: half surrogates become U+FFFD, and numbers that are not finite or
    too long become null."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {to_encodable(str(key)): to_encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_encodable(item) for item in value]
    if isinstance(value, int):
        return value if value.bit_length() <= MAX_INTEGER_BITS else None
    if isinstance(value, float):
        return value if isfinite(value) else None
    return value if value is None else to_encodable(str(value))
