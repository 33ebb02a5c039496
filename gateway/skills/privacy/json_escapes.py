"""Undoes JSON escapes in a text, and maps offsets back to the original."""

import re
from bisect import bisect_right

ESCAPE = re.compile(
    r'\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(["\\/bfnrt]))'
)
LETTERS = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class Unescaped:
    """`text` is the unescaped text. `original_offset` maps its offsets to offsets in the original."""

    def __init__(self, original: str) -> None:
        parts: list[str] = []
        self._here: list[int] = [0]
        self._there: list[int] = [0]
        here = there = 0
        for escape in ESCAPE.finditer(original):
            parts += (original[there : escape.start()], _meant(escape))
            here += escape.start() - there
            there = escape.end()
            self._here += (here, here + 1)
            self._there += (escape.start(), there)
            here += 1
        self.text = "".join([*parts, original[there:]])

    def at(self, place: int) -> int:
        index = bisect_right(self._here, place) - 1
        return self._there[index] + place - self._here[index]


def _meant(escape: re.Match[str]) -> str:
    high, low, code, letter = escape.groups()
    if letter:
        return LETTERS[letter]
    if high:
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00)
    point = int(code, 16)
    return "\ufffd" if 0xD800 <= point < 0xE000 else chr(point)
