"""JSON text -> a value, as strictly as RFC 8259 has it, in bounded time."""

import json
from typing import Any, Never

LONGEST_INTEGER = 640
"""Digits that Python converts to an integer however it is set up; longer ones are read as floats."""


def parsed(text: str) -> Any:
    """The value of a JSON text (RFC 8259). Raises ValueError where it is none, or is nested too deeply: NaN and
    Infinity are none, and neither is JSON in a fence."""
    try:
        return json.loads(text, parse_int=_integer, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= LONGEST_INTEGER else float(digits)


def _no_number(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")
