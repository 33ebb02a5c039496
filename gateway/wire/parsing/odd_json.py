"""JSON that is sent although RFC 8259 does not allow it.

Everything here works on a JSON text, in time linear in its length. Nothing of it is needed for most texts.
"""

import math
import re

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
