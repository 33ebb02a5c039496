"""Undoes JSON escapes in a text, and maps offsets back to the original."""

import re
from bisect import bisect_right

ESCAPE = re.compile(
    r'\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(["\\/bfnrt]))'
)
LETTERS = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class UnescapedText:
    """`text` is the unescaped text. `original_offset` maps its offsets to offsets in the original."""

    def __init__(self, original: str) -> None:
        parts: list[str] = []
        self._unescaped_offsets: list[int] = [0]
        self._original_offsets: list[int] = [0]
        unescaped = original_end = 0
        for escape in ESCAPE.finditer(original):
            parts += (original[original_end : escape.start()], _decode_escape(escape))
            unescaped += escape.start() - original_end
            original_end = escape.end()
            self._unescaped_offsets += (unescaped, unescaped + 1)
            self._original_offsets += (escape.start(), original_end)
            unescaped += 1
        self.text = "".join([*parts, original[original_end:]])

    def original_offset(self, offset: int) -> int:
        index = bisect_right(self._unescaped_offsets, offset) - 1
        return self._original_offsets[index] + offset - self._unescaped_offsets[index]


def _decode_escape(escape: re.Match[str]) -> str:
    high, low, code, letter = escape.groups()
    if letter:
        return LETTERS[letter]
    if high:
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00)
    point = int(code, 16)
    return "\ufffd" if 0xD800 <= point < 0xE000 else chr(point)
