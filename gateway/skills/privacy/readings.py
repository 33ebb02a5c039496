"""Reads a text as a person does: escapes undone, signs of other scripts in ASCII, invisible ones left out.

A reading knows where each of its characters stands in the original, so that what is found in it is hidden there.
"""

import html
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

Edit = tuple[int, int, str]
"""A span of a text, and what is read in its place."""

UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f"
"""Letters of scripts without spaces around foreign words. The recognisers would read them as part of a value."""
UNSPACED_LETTER = re.compile(f"[{UNSPACED}]")
SEPARATOR_SIGNS = r" \t\-./_:~\u00b7\u2022\u2219"
SEPARATOR = re.compile(rf"[{SEPARATOR_SIGNS}]{{1,3}}\??")
"""What may stand between the groups of a number. A pattern has a `?` after it."""
NUMBER_RUN = re.compile(
    r"(?<![0-9A-Za-z])[0-9A-Za-z]++(?:(?:(?<=\d)S(?=[0-9A-Za-z])|(?<=[A-Za-z])S(?=\d))[0-9A-Za-z]++)++".replace(
        "S", SEPARATOR.pattern
    )
)
"""Groups of digits and letters with separators between them, digits at one side of each."""
SPELLED_DIGITS = re.compile(rf"(?<![0-9A-Za-z])\d({SEPARATOR.pattern})\d(?:\1\d){{7,}}(?!\1?[0-9A-Za-z])")
"""Digits with a separator after each."""
INVISIBLE = (
    "\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\u00ad\u0334-\u0338\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u20d0-\u20f0\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff"
)
INVISIBLE_SIGNS = re.compile(f"[{INVISIBLE}]+")
SPELLED_SIGNS = {"at": "@", "dot": ".", "dash": "-"}
ESCAPES = re.compile(
    r"(?=[%&\\\[({?\ " + INVISIBLE + r"])(?:(?P<percent>(?:%(?:25)*[0-9A-Fa-f]{2})+)"
    r"|(?P<html>&(?:\#[0-9]{1,7}|\#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,12});)"
    r"|\\x(?P<hex>[0-9A-Fa-f]{2})"
    r"|(?P<space>(?:\\s|\[(?:[-\ ]|(?:[-\ ./_]|\\[-s./]){2,5})\])[?*+]?)"
    r"|\ ?[\[({]\ ?(?P<sign>at|dot|dash|@|\.|-)\ ?[\])}]\ ?"
    r"|(?P<nothing>\\(?=[^\w\s]|\ )|(?<=[0-9A-Z][-\ ])\?(?=\(?[0-9A-Z])|" + f"[{INVISIBLE}]+))",
    re.VERBOSE | re.IGNORECASE,
)
"""Escapes of URLs, HTML, patterns and Markdown, signs in brackets, and what nobody sees."""
ESCAPE_SIGN = re.compile(f"[%&\\\\\\[({{{INVISIBLE}]|[- ]\\?")
"""What every match of `ESCAPES` contains."""


class Reading:
    """`text` is the original after some edits, which are in order and apart."""

    def __init__(self, original: str, edits: Iterable[Edit]) -> None:
        parts: list[str] = []
        self.original = original
        self._starts = [0]
        self._sources = [(0, -1)]  # a second offset of -1: as it is written
        at = length = 0
        for start, end, replacement in edits:
            parts += (original[at:start], replacement)
            length += start - at
            self._starts += (length, length + len(replacement))
            self._sources += ((start, end), (end, -1))
            length += len(replacement)
            at = end
        self.text = "".join([*parts, original[at:]])

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """Return the span of the original from which a span of the reading, which is not empty, was read."""
        return self._source(start)[0], self._source(end - 1)[1]

    def is_verbatim(self, start: int, end: int) -> bool:
        """Whether a span is read as it is written."""
        first, last = self.original_span(start, end)
        return self.original[first:last] == self.text[start:end]

    def _source(self, offset: int) -> tuple[int, int]:
        """Return the span of the original behind one character."""
        index = bisect_right(self._starts, offset) - 1
        start, end = self._sources[index]
        shift = offset - self._starts[index]
        return (start, end) if end >= 0 else (start + shift, start + shift + 1)


def read_plainly(text: str) -> Reading | None:
    """Return the text as a person reads it. None if that is how it is written."""
    edits = [*_find_edits(text)] if ESCAPE_SIGN.search(text) else []
    reading = Reading(text, edits)
    reading.text = fold_signs(reading.text)
    return None if reading.text == text else reading


def _find_edits(text: str) -> Iterator[Edit]:
    for match in ESCAPES.finditer(text):
        yield *match.span(), INVISIBLE_SIGNS.sub("", _decode_escape(match))


def _decode_escape(match: re.Match[str]) -> str:
    kind = str(match.lastgroup)
    written = match[kind]
    if kind == "percent":
        return unquote(re.sub(r"%(?:25)+(?=[0-9A-Fa-f]{2})", "%", written))
    if kind == "html":
        return html.unescape(written)
    if kind == "hex":
        return chr(int(written, 16))
    if kind == "sign":
        return SPELLED_SIGNS.get(written.lower(), written)
    return " " if kind == "space" else ""


MAX_FOLDED_SIGNS = 20_000
"""Signs that the table remembers: more than a text in any script has."""


class _Folding(dict[int, str]):
    """A table for `str.translate`, which fills itself. Each sign stands for one."""

    def __missing__(self, point: int) -> str:
        folded = _fold_sign(chr(point))
        if len(self) < MAX_FOLDED_SIGNS:
            self[point] = folded
        return folded


def _fold_sign(sign: str) -> str:
    if sign in "\u3002\uff61":  # full stops that also part the labels of a domain
        return "."
    if sign == "\t" or UNSPACED_LETTER.match(sign) or unicodedata.category(sign) == "Zs" or sign == "\u2800":
        return " "
    if sign.isascii():
        return sign
    if unicodedata.category(sign) == "Pd" or sign == "\u2212":
        return "-"
    if sign in "\u2044\u2215":
        return "/"
    if unicodedata.decomposition(sign).startswith(("<super>", "<sub>")):
        return sign  # a power or an index, no digit of a number
    if (digit := unicodedata.digit(sign, None)) is not None:
        return str(digit)
    plain = unicodedata.normalize("NFKC", sign)
    return plain if len(plain) == 1 and plain.isascii() else sign


FOLDING = _Folding()


def fold_signs(text: str) -> str:
    """Return a text of the same length with digits, letters and signs of other scripts in ASCII, and blanks for
    all spaces and for letters of scripts without spaces."""
    return text if text.isascii() and "\t" not in text else text.translate(FOLDING)


def regroup(text: str, separator: str, min_digits: int) -> Iterator[tuple[int, Reading]]:
    """Yield the numbers of a text that are written in groups, with their offsets, with one separator between
    all groups, unless they are written so; and without any, if each digit is its own group. Numbers of fewer
    than `min_digits` are left out."""
    for run in NUMBER_RUN.finditer(text):
        written = run[0]
        if sum(map(str.isdigit, written)) < min_digits:
            continue
        edits = [(*one.span(), separator) for one in SEPARATOR.finditer(written) if one[0] != separator]
        if edits:
            yield run.start(), Reading(written, edits)
        spelled = [
            (spelled.start() + at + 1, spelled.start() + at + 1 + len(spelled[1]), "")
            for spelled in SPELLED_DIGITS.finditer(written)
            for at in range(0, len(spelled[0]) - 1, len(spelled[1]) + 1)
        ]
        if spelled:
            yield run.start(), Reading(written, spelled)


def is_uniform(written: str) -> bool:
    """Whether the separators in a number are all the same, or single blanks and dashes. Others are the signs
    of a table or of a calculation."""
    separators = set(SEPARATOR.findall(written))
    return len(separators) <= 1 or separators <= {" ", "-"}
