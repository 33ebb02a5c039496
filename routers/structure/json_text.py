"""A strict JSON parser (RFC 8259) that runs in bounded time."""

import json
from typing import Any, Never

MAX_INTEGER_DIGITS = 640
"""Digits that Python converts to an integer under any configuration. Longer integers are read as floats."""


def parse_json(text: str) -> Any:
    """Return the value of a JSON text (RFC 8259).

    Raises ValueError if it is not JSON or is nested too deeply. NaN, Infinity and JSON in a code fence are
    not JSON.
    """
    try:
        return json.loads(text, parse_int=_parse_integer, parse_constant=_reject_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _parse_integer(digits: str) -> float:
    return int(digits) if len(digits) <= MAX_INTEGER_DIGITS else float(digits)


def _reject_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")
