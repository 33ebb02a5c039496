"""Protected spans of a text: `<keep>` tags, code, JSON, and words to keep."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

Span = tuple[int, int]
"""Start offset and end offset (exclusive). Lists of spans are sorted and neither touch nor overlap."""

FENCE = re.compile(r"(?m)^[ \t]*(`{3,}|~{3,})")
INLINE = re.compile(r"`[^`\n]+`")
BRACKETS = re.compile(r"[{}\[\]]")
BRACKETS_AND_QUOTES = re.compile(r'\\.|["\n{}\[\]]')
OF_JSON = re.compile(r'[{\[]\s*(?:["{\[\d\-}\]]|true\b|false\b|null\b|[\w$]+\s*:)')
"""The beginning of a JSON value, or of notation like it."""
CITED = re.compile(r"\[\d{1,4}\]")
OF_OBJECT = re.compile(r'\{\s*"|\[\s*[{"]')
BLANK_LINE = re.compile(r"\n[ \t\r]*\n(?:[ \t\r]*\n)*")
UNSPACED = "\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Characters of scripts without spaces between words: Chinese, Japanese."""


def merged(spans: Sequence[Span]) -> list[Span]:
    """Sort spans, merge those that touch or overlap, and drop empty ones."""
    found: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def outside(spans: Sequence[Span], length: int) -> list[Span]:
    """Return the parts of a text of `length` characters that no span covers."""
    edges = [0, *(edge for span in spans for edge in span), length]
    return [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end]


def untouchable(text: str, keep: Sequence[str] = (), whole: Sequence[str] = ()) -> list[Span]:
    """Find code, JSON, `<keep>` tags with their content, the words of `keep` in any case, and every
    occurrence of the texts of `verbatim`."""
    pattern = _kept(tuple(keep))
    words = [match.span() for match in pattern.finditer(text)] if pattern else []
    values = [span for value in whole for span in _all_of(value, text)]
    return merged([*_code(text), *_json(text), *marked(text, "keep", unclosed=True), *words, *values])


def _all_of(value: str, text: str) -> Iterator[Span]:
    at = text.find(value)
    while at >= 0:
        yield at, at + len(value)
        at = text.find(value, at + 1)


def marked(text: str, name: str, *, unclosed: bool) -> list[Span]:
    """Find what stands between `<name>` and `</name>`, including the tags, which may be nested. With
    `unclosed`, an open tag extends to the end of the text."""
    found, opened = [], []
    for mark in re.finditer(rf"<(/?){name}>", text):
        if not mark[1]:
            opened.append(mark.start())
        elif opened:
            found.append((opened.pop(), mark.end()))
    if unclosed and opened:
        found.append((opened[0], len(text)))
    return merged(found)


@lru_cache(maxsize=64)
def _kept(keep: tuple[str, ...]) -> re.Pattern[str] | None:
    """Build a pattern of the words to keep. Longer words come first, so that they win over their prefixes.
    Words match as a whole if they have edges."""
    if not keep:
        return None
    return re.compile("|".join(map(_bounded, sorted(keep, key=len, reverse=True))), re.IGNORECASE)


def _bounded(word: str) -> str:
    edge = re.compile(rf"[^\W{UNSPACED}]")
    before = r"(?<!\w)" if edge.match(word[0]) else ""
    after = r"(?!\w)" if edge.match(word[-1]) else ""
    return before + re.escape(word) + after


def _code(text: str) -> Iterator[Span]:
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
    for match in INLINE.finditer(text):
        yield match.span()


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _json(text: str) -> Iterator[Span]:
    """Yield values in balanced brackets, even if a parser would reject them. A truncated value extends to the
    end of its paragraph. Brackets are paired twice, with and without regard to quotation marks, since prose
    may contain unpaired ones."""
    for brackets in (BRACKETS.finditer(text), _unquoted(text)):
        opened: list[int] = []
        for match in brackets:
            if match[0] in "{[":
                opened.append(match.start())
            elif opened:
                start = opened.pop()
                if OF_JSON.match(text, start) and not CITED.fullmatch(text, start, match.end()):
                    yield start, match.end()
        cut_off = next((start for start in opened if OF_OBJECT.match(text, start)), None)
        if cut_off is not None:
            blank = BLANK_LINE.search(text, cut_off)
            yield cut_off, blank.start() if blank else len(text)


def _unquoted(text: str) -> Iterator[re.Match[str]]:
    """Yield the brackets outside of JSON strings. A string ends at the latest with its line."""
    quoted = False
    for match in BRACKETS_AND_QUOTES.finditer(text):
        if match[0] == '"':
            quoted = not quoted
        elif match[0] == "\n":
            quoted = False
        elif len(match[0]) == 1 and not quoted:
            yield match
