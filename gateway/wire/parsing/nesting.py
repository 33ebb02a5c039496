"""Reads JSON so that it can be written again: with all digits, and not nested too deeply."""

import json
import re
from typing import Any

import orjson

MAX_NESTING = 200
"""Maximum levels of objects and lists in a JSON text. orjson reads 1024 levels and writes 254."""

SPARE = 54
"""Levels that orjson can write around those. A record, a response or an event contains parts of a request."""


MIN_DEEP_BYTES = 2 * MAX_NESTING
"""A JSON text of no more bytes cannot nest that deeply: each level opens and closes."""

_LONG_INTEGER = re.compile(rb"(?<![\d.])\d{19,}(?![\d.eE])")
_DIGITS_TO_ZERO = bytes(ord("0") if chr(code) in "0123456789" else ord(" ") for code in range(256))
_LONG_RUN = b"0" * 19
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**64 - 1  # what orjson reads and writes


class TooDeep(ValueError):
    """A JSON text is nested more than `MAX_NESTING` levels deep.

    `field` is the key of the outermost object whose value is too deep; None for a list.
    """

    def __init__(self, field: str | None) -> None:
        what = "it" if field is None else field
        super().__init__(
            f"{what} is nested too deeply: expected at most {MAX_NESTING} levels of objects and lists"
        )
        self.field = field


def read_json(raw: bytes | str) -> Any:
    """Return the value of a JSON text, which orjson can write again. Raises orjson.JSONDecodeError, TooDeep.

    An integer that needs more than 64 bits becomes an `orjson.Fragment`, which is written with the same digits.
    """
    value = orjson.loads(raw)
    if _may_be_deep(raw) and not _is_writable(value):
        raise TooDeep(_deep_field(value))
    data = raw if isinstance(raw, bytes) else raw.encode()
    return _parse_exactly(data) if _may_have_long_integers(data) else value


def _may_be_deep(raw: bytes | str) -> bool:
    """Return whether a JSON text has enough brackets, in strings or not, to be nested too deeply.

    `split` stops at the last bracket that matters. Counting all brackets would take a third of the time of parsing.
    """
    if len(raw) <= MIN_DEEP_BYTES:
        return False
    objects, lists = (b"{", b"[") if isinstance(raw, bytes) else ("{", "[")
    half = MAX_NESTING // 2
    return len(raw.split(objects, half)) > half or len(raw.split(lists, half)) > half  # type: ignore[arg-type]


def _is_writable(value: Any, spare: int = SPARE) -> bool:
    for _ in range(spare):
        value = [value]
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        return False
    return True


def _deep_field(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    field: str = next(key for key, inner in value.items() if not _is_writable(inner, SPARE + 1))
    return field


def _may_have_long_integers(raw: bytes) -> bool:
    """Return whether a JSON text has so many digits in a row that an integer may need more than 64 bits."""
    if _LONG_RUN not in raw.translate(_DIGITS_TO_ZERO):
        return False  # a search for the pattern takes ten times as long
    return _LONG_INTEGER.search(raw) is not None


def _parse_exactly(raw: bytes) -> Any:
    """Return the value of a JSON text that orjson reads, but with all digits of each integer: one that needs more than
    64 bits becomes a fragment that orjson writes as it was read."""
    return json.loads(raw, parse_int=_read_integer)


def _read_integer(digits: str) -> Any:
    value = int(digits)
    return value if _MIN_INTEGER <= value <= _MAX_INTEGER else orjson.Fragment(digits)
