"""Reads JSON so that it can be written again: with all digits, and not nested too deeply."""

from typing import Any

import orjson

from .odd_json import may_have_long_integers, parse_exactly

MAX_NESTING = 200
"""Maximum levels of objects and lists in a JSON text. orjson reads 1024 levels and writes 254."""

SPARE = 54
"""Levels that orjson can write around those. A record, a response or an event contains parts of a request."""


MIN_DEEP_BYTES = 2 * MAX_NESTING
"""A JSON text of no more bytes cannot nest that deeply: each level opens and closes."""


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
    return parse_exactly(data) if may_have_long_integers(data) else value


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
