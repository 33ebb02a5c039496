"""Undoes JSON escapes in a text."""

import re

from .readings import Reading

ESCAPE = re.compile(
    r'\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(["\\/bfnrt]))'
)
LETTERS = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def undo_json_escapes(text: str) -> Reading:
    return Reading(text, [(*escape.span(), _decode_escape(escape)) for escape in ESCAPE.finditer(text)])


def _decode_escape(escape: re.Match[str]) -> str:
    high, low, code, letter = escape.groups()
    if letter:
        return LETTERS[letter]
    if high:
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00)
    point = int(code, 16)
    return "\ufffd" if 0xD800 <= point < 0xE000 else chr(point)
