"""JSON that is sent although RFC 8259 does not allow it, or although orjson does not read it exactly.

Everything here works on a JSON text, in time linear in its length. Nothing of it is needed for most texts.
"""

import json
import math
import re
from typing import Any

import orjson

UNLIKELY = b"-9999.0"
"""OpenAI's log-probability of a token that is very unlikely."""

_SURROGATE_PAIR = rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_SURROGATE = rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
_ESCAPES = re.compile(rb"%b|(%b)|\\." % (_SURROGATE_PAIR, _SURROGATE), re.DOTALL)
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_NUMBERS = re.compile(
    rb"%b|(?<![\w.+-])(?:[+-]?(?:inf(?:inity)?|nan)\b"
    rb"|-?\d++(?:\.\d++)?+e\+?\d{3,}|-?\d{300,}+(?:\.\d++)?+(?:e[+-]?\d++)?+)" % _STRING,
    re.DOTALL | re.IGNORECASE,
)
"""Strings, and numbers that may not be finite as a double."""
_LONG_INTEGER = re.compile(rb"(?<![\d.])\d{19,}(?![\d.eE])")
_DIGITS_TO_ZERO = bytes(ord("0") if chr(code) in "0123456789" else ord(" ") for code in range(256))
_LONG_RUN = b"0" * 19
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**64 - 1  # what orjson reads and writes


def repair_surrogates(raw: bytes) -> bytes:
    r"""Replace each escaped half of a surrogate pair that stands alone by U+FFFD. Two halves `\ud83d\ude00` are joined
    by any parser."""
    return _ESCAPES.sub(lambda escape: rb"\ufffd" if escape[1] else escape[0], raw)


def repair_answer(raw: bytes) -> bytes:
    """Repair what servers write: bytes that are no UTF-8, halves of surrogate pairs, and numbers that are not finite.

    Minus infinity becomes `UNLIKELY`, since only log-probabilities are infinite. Other such numbers become null.
    """
    try:
        raw.decode()
    except UnicodeDecodeError:
        raw = raw.decode(errors="replace").encode()
    return _NUMBERS.sub(_to_finite, repair_surrogates(raw))


def _to_finite(match: re.Match[bytes]) -> bytes:
    text = match[0]
    if text.startswith(b'"') or math.isfinite(number := float(text)):
        return text
    return UNLIKELY if number < 0 else b"null"


def may_have_long_integers(raw: bytes) -> bool:
    """Return whether a JSON text has so many digits in a row that an integer may need more than 64 bits."""
    if _LONG_RUN not in raw.translate(_DIGITS_TO_ZERO):
        return False  # a search for the pattern takes ten times as long
    return _LONG_INTEGER.search(raw) is not None


def parse_exactly(raw: bytes) -> Any:
    """Return the value of a JSON text that orjson reads, but with all digits of each integer: one that needs more than
    64 bits becomes a fragment that orjson writes as it was read."""
    return json.loads(raw, parse_int=_read_integer)


def _read_integer(digits: str) -> Any:
    value = int(digits)
    return value if _MIN_INTEGER <= value <= _MAX_INTEGER else orjson.Fragment(digits)
