"""Reads how long a server asks to be left alone: from the headers of an error, else from its body."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from gateway.upstreams.providers.refusals import Refusal

MAX_RETRY_AFTER_S = 86_400.0
"""Maximum seconds that are believed. Azure says this much for an exhausted quota."""

SECONDS_BY_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}

_PART = (
    r"(\d{1,9}(?:\.\d{1,12})?)\s*"
    r"(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)(?![a-z])"
)
_SUM = rf"(?:{_PART}(?:,? and |,? )?)+"
_PARTS = re.compile(_PART, re.IGNORECASE)
_DURATION = re.compile(_SUM, re.IGNORECASE)
_REQUEST = re.compile(
    rf"\b(?:try again|retry|wait)(?: in| after| for)?(?: about| approximately)? ({_SUM})", re.IGNORECASE
)
"""Matches a request to wait: OpenAI's and Groq's "Please try again in 1m0.36s", Gemini's "Please retry in 58.93s",
Azure's "Please retry after 6 seconds"."""


def read_retry_after(headers: Mapping[str, str], refusal: Refusal) -> float | None:
    """Return the seconds to wait; None if the server does not say.

    OpenAI and Azure send the header to the millisecond too, as `retry-after-ms`. Servers and proxies without either
    say it in the error.
    """
    milliseconds = _parse_header(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return min(MAX_RETRY_AFTER_S, milliseconds / 1000)
    seconds = _parse_header(headers.get("retry-after"))
    if seconds is None:
        seconds = parse_duration(refusal.retry_delay) or _find_request(refusal.message)
    return None if seconds is None else min(MAX_RETRY_AFTER_S, seconds)


def _parse_header(value: str | None) -> float | None:
    """Return the seconds of a `Retry-After` header in either form of RFC 9110, section 10.2.3; None if
    invalid."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        pass
    else:
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _find_request(message: str) -> float | None:
    request = _REQUEST.search(message)
    return parse_duration(request[1]) if request else None


def parse_duration(text: str) -> float | None:
    """Return the seconds of a duration such as `1m0.36s` or `6 seconds`; None if it is none."""
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(amount) * _find_seconds(unit.lower()) for amount, unit in _PARTS.findall(text))


def _find_seconds(unit: str) -> float:
    return SECONDS_BY_UNIT["ms" if unit.startswith(("ms", "mil")) else unit[0]]
