"""Splits a text into whole words, some of which may be removed, and joins those that stay."""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from .logical_words import MAX_FOLLOWERS, is_logical, is_passed_over
from .protected_spans import UNSPACED
from .spans import Span

CHUNK = re.compile(r"\S+")
SENTENCE_END = re.compile(r"(?<=[^.!?;])[.!?;]+[\"'”’)\]]*$")
"""The end of a sentence, at the end of a chunk."""
BULLET = re.compile(r"\(?(?:\d{1,3}|[A-Za-z])[.)]|[-*•·#>|]+|\[[^\]]{1,64}\]")
"""The beginning of a list item, or the mark of a cited passage."""
CLAUSE = re.compile(r"[^，。！？；：、…」』）]*[，。！？；：、…」』）]+|[^，。！？；：、…」』）]+")
"""A clause. In scripts without spaces between words, it is the smallest part that may be removed."""
HAS_UNSPACED = re.compile(f"[{UNSPACED}]")

_SMALL = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
_LARGE = (
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion"
)
_PARTS = "zero dozen half halves third thirds quarter quarters twice thrice double triple"
NUMBER_WORDS = frozenset(f"{_SMALL} {_LARGE} {_PARTS}".split())
_FUNCTION = (
    "of and or the a an to in on at by for with from is was were are as than that which who but if it he she"
)
_MORE = "they we i you his her their its there then when while so"
NOT_COUNTED = frozenset(f"{_FUNCTION} {_MORE}".split())
"""Words that may follow a number without being what it counts."""
_SIGN = r"[-+*/=<>≤≥≠≈~×÷x^±→%&]{1,2}"
NUMBER_PREFIX = re.compile(rf"{_SIGN}|[$€£¥₹#№]|[A-Z]{{3}}|Rs\.?|No\.?|ca\.?")
"""What may precede a number and belongs to it: a sign, a currency."""
NUMBER_SUFFIX = re.compile(rf"{_SIGN}|(?!(?i:{'|'.join(NOT_COUNTED)})\b)(?:[^\W\d_]|[%°‰µ]).*")
"""What may follow a number and belongs to it: a sign, what it counts."""
DIGIT = re.compile(r"\d")


ANSWER_LINE = re.compile(
    r"(?im)^[ \t]*(?:(?:a|answer|output|assistant|solution|response|reply|label|antwort|respuesta)[ \t]*:|答案?[：:]"
    r"|(?:so,? |therefore,? |thus,? )?the (?:final )?answer is\b).*$"
)
"""A line with the answer of an example."""
MAX_ANSWER_WORDS = 10
"""Maximum words of an answer line that is kept with its block."""


class WordKind(IntEnum):
    """What may happen to a word."""

    REMOVABLE = 0
    """May be removed."""
    ATTACHED = 1
    """Stays or goes with its sentence: the sentence's end, a list's bullet, a label at a line's beginning."""
    BLOCK_BOUND = 2
    """Stays with its block: a number, a negation or a quantifier, with what it is about; the short answer of an
    example."""
    PROTECTED = 3
    """Always stays."""


class Word(NamedTuple):
    """A word's span and kind. `sentence` is the number of its sentence. No sentence crosses a line end."""

    start: int
    end: int
    kind: WordKind
    sentence: int


def split_words(text: str, fixed: Sequence[Span] = ()) -> list[Word]:
    """Split a text into words, which cover everything but the whitespace between them. A word that touches a
    protected span belongs to it."""
    words: list[Word] = []
    spans = deque(fixed)
    sentence, at = 0, 0
    labelled = False
    for start, end, loose, ends in _split_pieces(text):
        new_line = "\n" in text[at:start]
        sentence += new_line and not labelled  # a label on a line of its own belongs to the next line
        labelled = loose and not ends and (new_line or not at)
        at = end
        while spans and spans[0][1] <= start:
            spans.popleft()
        if words and words[-1].end > start:
            words[-1] = _extend_word(words[-1], end, spans)
        elif spans and spans[0][0] < end:
            start = min(start, spans[0][0])
            words.append(_extend_word(Word(start, end, WordKind.PROTECTED, sentence), end, spans))
        else:
            words.append(Word(start, end, WordKind.ATTACHED if loose else WordKind.REMOVABLE, sentence))
        sentence += ends
    return _mark_answers(text, _mark_logic(text, _mark_numbers(text, words)))


def _extend_word(unit: Word, end: int, spans: deque[Span]) -> Word:
    """Extend a protected word to `end`, and over the spans that it then reaches."""
    end = max(unit.end, end)
    while spans and spans[0][0] < end:
        end = max(end, spans.popleft()[1])
    return unit._replace(end=end)


def _split_pieces(text: str) -> Iterator[tuple[int, int, bool, bool]]:
    """Yield each word's start, its end, whether it is attached to its sentence, and whether it ends one."""
    at = 0
    for chunk in CHUNK.finditer(text):
        start, end = chunk.span()
        first = at == 0 or "\n" in text[at:start]
        at = end
        word = chunk[0]
        if HAS_UNSPACED.search(word):
            for clause in CLAUSE.finditer(word):
                yield start + clause.start(), start + clause.end(), False, clause[0][-1] in "。！？"
        elif first and (BULLET.fullmatch(word) or (word[-1] == ":" and len(word) <= MAX_LABEL_CHARS)):
            yield start, end, True, False
        elif stop := SENTENCE_END.search(word):
            yield start, start + stop.start(), False, False
            yield start + stop.start(), end, True, True
        else:
            yield start, end, False, False


MAX_LABEL_CHARS = 16
"""Maximum characters of a label at a line's beginning, including its colon."""


def _mark_numbers(text: str, words: list[Word]) -> list[Word]:
    """Mark numbers, and what belongs to them, as bound to their block."""
    out = list(words)

    def hold_neighbour(at: int, wanted: re.Pattern[str], *, after: bool) -> None:
        neighbour = out[at]
        first, second = (words[at - 1], neighbour) if after else (neighbour, words[at + 1])
        word = text[neighbour.start : neighbour.end]
        if (
            neighbour.kind is WordKind.REMOVABLE
            and _is_adjacent(text, first, second)
            and wanted.fullmatch(word)
        ):
            out[at] = neighbour._replace(kind=WordKind.BLOCK_BOUND)

    for at, unit in enumerate(words):
        if unit.kind is WordKind.REMOVABLE and _is_number(text[unit.start : unit.end]):
            out[at] = unit._replace(kind=WordKind.BLOCK_BOUND)
            if at:
                hold_neighbour(at - 1, NUMBER_PREFIX, after=False)
            if at + 1 < len(words):
                hold_neighbour(at + 1, NUMBER_SUFFIX, after=True)
    return out


def _mark_logic(text: str, words: list[Word]) -> list[Word]:
    """Mark negations and quantifiers, with what they are about, as bound to their block."""
    out = list(words)
    for at, unit in enumerate(words):
        if unit.kind in (WordKind.REMOVABLE, WordKind.BLOCK_BOUND) and is_logical(
            text[unit.start : unit.end]
        ):
            for place in range(at, min(len(words), at + 1 + MAX_FOLLOWERS)):
                follower = words[place]
                if follower.sentence != unit.sentence or follower.kind > WordKind.BLOCK_BOUND:
                    break
                if follower.kind is WordKind.REMOVABLE:
                    out[place] = follower._replace(kind=WordKind.BLOCK_BOUND)
                word = text[follower.start : follower.end]
                if place > at and not (is_passed_over(word) or is_logical(word)):
                    break
    return out


def _mark_answers(text: str, words: list[Word]) -> list[Word]:
    """Mark the short answers of examples as bound to their block."""
    lines = deque(
        line.span() for line in ANSWER_LINE.finditer(text) if len(line[0].split()) <= MAX_ANSWER_WORDS
    )
    out = []
    for unit in words:
        while lines and lines[0][1] <= unit.start:
            lines.popleft()
        within = bool(lines) and lines[0][0] <= unit.start
        out.append(
            unit._replace(kind=WordKind.BLOCK_BOUND) if within and unit.kind is WordKind.REMOVABLE else unit
        )
    return out


def _is_number(word: str) -> bool:
    if DIGIT.search(word):
        return True
    plain = word.strip("\"'(),:").casefold()
    return plain in NUMBER_WORDS or ("-" in plain and not NUMBER_WORDS.isdisjoint(plain.split("-")))


def _is_adjacent(text: str, first: Word, second: Word) -> bool:
    """Whether at most one space separates two words."""
    return second.start - first.end <= 1 and text[first.end - 1] not in ",;:)" and text[first.end] != "\n"


def join_words(text: str, words: Sequence[Word], keep_flags: Sequence[bool]) -> str:
    """Join the words that stay. Whitespace between neighbours is kept; across removed words, the strongest
    gap among them is used."""
    out: list[str] = []
    at, gone, parted = 0, False, 0
    for unit, stays in zip(words, keep_flags, strict=True):
        parted = max(parted, _gap_strength(text, at, unit.start))
        if stays:
            if not gone:
                out.append(text[at : unit.start])
            elif out:
                attached = unit.kind is WordKind.ATTACHED and unit.start == at
                out.append("" if attached and parted < NEW_LINE else GAPS[parted])
            out.append(text[unit.start : unit.end])
            gone, parted = False, 0
        else:
            gone = True
        at = unit.end
    return "".join(out) + text[at:] if out else ""


GAPS = ("", " ", "\n", "\n\n")
NEW_LINE = 2


def _gap_strength(text: str, start: int, end: int) -> int:
    """Return a gap's strength as an index into GAPS."""
    lines = text.count("\n", start, end)
    if lines > 1:
        return 3
    return 2 if lines else int(end > start)
