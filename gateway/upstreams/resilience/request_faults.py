"""Tells errors that are about the request from faults of its server. Only the latter open a breaker."""

import re

import orjson

from gateway.upstreams.failures import REASON_BY_STATUS
from gateway.upstreams.providers.refusals import read_refusal
from gateway.upstreams.transport.reported_error import find_status_of_word

AMBIGUOUS_FIELDS = frozenset({"model", "messages", "stream", "prompt", "input", "user", "stop", "seed", "n"})
"""Fields whose names are also plain words. They count only where the message marks them as a field."""

WORDS_OF_FIELDS = {"tools": ("tool", "function"), "response_format": ("schema", "grammar")}
"""Other words that errors use for a field."""


def blames_request(status: int, body: bytes, request: bytes) -> bool:
    """Return whether an error is about the request: its server works.

    A status below 500 says so, apart from 408. Some servers send 500, or none, with an error that has the type of a
    client's mistake, or that names the field of the request which they can not serve.
    """
    reason = REASON_BY_STATUS.get(status, "error" if status >= 500 else "rejected")
    if reason not in ("error", "garbage"):
        return reason not in ("overloaded", "timeout")
    refusal = read_refusal(body)
    statuses = [find_status_of_word(word) or 500 for word in (refusal.code, refusal.type)]
    if refusal.param or min(statuses) < 500:
        return True
    return any(_names_field(refusal.message, field) for field in _list_fields(request))


def _names_field(message: str, field: str) -> bool:
    if field in AMBIGUOUS_FIELDS:
        marks = (
            rf"([`'\"]){field}\1|\b{field}\[\d|\b(param|parameter|field|argument):? {field}\b|\b{field} param"
        )
        return re.search(marks, message) is not None
    words = "|".join(map(re.escape, (field, *WORDS_OF_FIELDS.get(field, ()))))
    return re.search(rf"\b({words})s?\b", message, re.IGNORECASE) is not None


def _list_fields(request: bytes) -> list[str]:
    try:
        body = orjson.loads(request)
    except orjson.JSONDecodeError:
        return []
    return [*body] if isinstance(body, dict) else []
