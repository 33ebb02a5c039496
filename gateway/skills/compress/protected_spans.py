"""Protected spans of a text: `<keep>` tags, code, tables, JSON, and words to keep."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from .code_lines import find_code_lines
from .spans import Span, merge_spans
from .tables import find_tables

FENCE = re.compile(r"(?m)^[ \t]*(`{3,}|~{3,})")
INLINE_CODE = re.compile(r"`[^`\n]+`")
BRACKETS = re.compile(r"[{}\[\]]")
BRACKETS_AND_QUOTES = re.compile(r'\\.|["\n{}\[\]]')
JSON_START = re.compile(r'[{\[]\s*(?:["{\[\d\-}\]]|true\b|false\b|null\b|[\w$]+\s*:)')
"""The beginning of a JSON value, or of notation like it."""
CITATION = re.compile(r"\[\d{1,4}\]")
OBJECT_START = re.compile(r'\{\s*"|\[\s*[{"]')
BLANK_LINE = re.compile(r"\n[ \t\r]*\n(?:[ \t\r]*\n)*")
UNSPACED = "\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Characters of scripts without spaces between words: Chinese, Japanese."""


def find_protected_spans(text: str, keep: Sequence[str] = (), verbatim: Sequence[str] = ()) -> list[Span]:
    """Find code, tables, JSON, `<keep>` tags with their content, the words of `keep` in any case, and every
    occurrence of the texts of `verbatim`."""
    pattern = _build_keep_pattern(tuple(keep))
    words = [match.span() for match in pattern.finditer(text)] if pattern else []
    values = [span for value in verbatim for span in _find_all(value, text)]
    return merge_spans(
        [
            *_find_fenced_code(text),
            *find_code_lines(text),
            *find_tables(text),
            *_find_json(text),
            *find_marked_spans(text, "keep", unclosed=True),
            *words,
            *values,
        ]
    )


def _find_all(value: str, text: str) -> Iterator[Span]:
    at = text.find(value)
    while at >= 0:
        yield at, at + len(value)
        at = text.find(value, at + 1)


def find_marked_spans(text: str, name: str, *, unclosed: bool) -> list[Span]:
    """Find what stands between `<name>` and `</name>`, including the tags, which may be nested. With
    `unclosed`, an open tag extends to the end of the text."""
    closed, open_starts = [], []
    for mark in re.finditer(rf"<(/?){name}>", text):
        if not mark[1]:
            open_starts.append(mark.start())
        elif open_starts:
            closed.append((open_starts.pop(), mark.end()))
    if unclosed and open_starts:
        closed.append((open_starts[0], len(text)))
    return merge_spans(closed)


@lru_cache(maxsize=64)
def _build_keep_pattern(keep: tuple[str, ...]) -> re.Pattern[str] | None:
    """Build a pattern of the words to keep. Longer words come first, so that they win over their prefixes.
    Words match as a whole if they have edges."""
    if not keep:
        return None
    return re.compile("|".join(map(_with_word_edges, sorted(keep, key=len, reverse=True))), re.IGNORECASE)


def _with_word_edges(word: str) -> str:
    edge = re.compile(rf"[^\W{UNSPACED}]")
    before = r"(?<!\w)" if edge.match(word[0]) else ""
    after = r"(?!\w)" if edge.match(word[-1]) else ""
    return before + re.escape(word) + after


def _find_fenced_code(text: str) -> Iterator[Span]:
    """Yield fenced code and inline code. An unclosed fence extends to the end of the text."""
    opened: re.Match[str] | None = None
    for fence in FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence[1].startswith(opened[1]):
            yield opened.start(), _line_end(text, fence.end())
            opened = None
    if opened is not None:
        yield opened.start(), len(text)
    for match in INLINE_CODE.finditer(text):
        yield match.span()


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _find_json(text: str) -> Iterator[Span]:
    """Yield values in balanced brackets, even if a parser would reject them. A truncated value extends to the
    end of its paragraph. Brackets are paired twice, with and without regard to quotation marks, since prose
    may contain unpaired ones."""
    for brackets in (BRACKETS.finditer(text), _find_unquoted_brackets(text)):
        open_starts: list[int] = []
        for match in brackets:
            if match[0] in "{[":
                open_starts.append(match.start())
            elif open_starts:
                start = open_starts.pop()
                if JSON_START.match(text, start) and not CITATION.fullmatch(text, start, match.end()):
                    yield start, match.end()
        cut_off = next((start for start in open_starts if OBJECT_START.match(text, start)), None)
        if cut_off is not None:
            blank = BLANK_LINE.search(text, cut_off)
            yield cut_off, blank.start() if blank else len(text)


def _find_unquoted_brackets(text: str) -> Iterator[re.Match[str]]:
    """Yield the brackets outside of JSON strings. A string ends at the latest with its line."""
    quoted = False
    for match in BRACKETS_AND_QUOTES.finditer(text):
        if match[0] == '"':
            quoted = not quoted
        elif match[0] == "\n":
            quoted = False
        elif len(match[0]) == 1 and not quoted:
            yield match
