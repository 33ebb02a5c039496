"""A strict JSON parser (RFC 8259) that runs in bounded time."""

import json
from typing import Any, Never

LONGEST_INTEGER = 640
"""Digits that Python converts to an integer under any configuration. Longer integers are read as floats."""


def parsed(text: str) -> Any:
    """Return the value of a JSON text (RFC 8259).

    Raises ValueError if it is not JSON or is nested too deeply. NaN, Infinity and JSON in a code fence are
    not JSON.
    """
    try:
        return json.loads(text, parse_int=_integer, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= LONGEST_INTEGER else float(digits)


def _no_number(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")
