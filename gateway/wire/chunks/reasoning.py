"""Finds the reasoning that a model writes into its answer between `<think>` and `</think>`."""

from bisect import bisect_right
from collections.abc import Sequence

THINK, THINK_END = "<think>", "</think>"
"""Tags around the reasoning, used if the server does not send reasoning separately."""

TAG_START = THINK[0]
"""Text without this character neither begins nor ends a tag."""


MAX_UNDECIDED = 64
"""Maximum tokens that wait for the rest of a tag. More than a tag has letters are tokens without text."""


class ReasoningTracker:
    """Follows the tags through one answer, token by token. A token that may begin a tag is decided by what follows."""

    def __init__(self) -> None:
        self.is_inside = False
        """Whether the text so far ends within reasoning."""
        self.partial_tag = ""
        """What the text so far ends with, if that may be the beginning of a tag."""
        self._ends: list[int] = []

    def mark_tokens(self, texts: Sequence[str], *, is_last: bool = False) -> list[bool]:
        """Add tokens, and return for the earliest undecided ones, of these and before, whether they are reasoning.

        A token that only overlaps reasoning or its tags counts. Tokens that may belong to an incomplete tag are
        undecided; with `is_last` there are none. The time is linear in all text.
        """
        text = self.partial_tag + "".join(texts)
        ends = [*self._ends, *(len(self.partial_tag) + end for end in _end_offsets(texts))]
        spans, self.is_inside, at = self._find_spans(text)
        rest_at = len(text) - _measure_partial_tag(text, at, THINK_END if self.is_inside else THINK)
        decided = len(ends)
        if not (is_last or self.is_inside):  # inside, a partial tag is reasoning too
            decided = max(_count_decided(ends, at, rest_at), len(ends) - MAX_UNDECIDED)
        self.partial_tag = "" if is_last else text[rest_at:]
        self._ends = [end - rest_at for end in ends[decided:]]
        return _mark(ends[:decided], spans)

    def _find_spans(self, text: str) -> tuple[list[tuple[int, int]], bool, int]:
        """Return the reasoning spans, whether the text ends inside reasoning, and the end of its last tag. A
        span that is open at either end extends past that end."""
        spans: list[tuple[int, int]] = []
        inside, begin, at = self.is_inside, -1, 0
        while (tag_start := text.find(THINK_END if inside else THINK, at)) >= 0:
            if inside:
                at = tag_start + len(THINK_END)
                spans.append((begin, at))
            else:
                begin, at = tag_start, tag_start + len(THINK)
            inside = not inside
        if inside:
            spans.append((begin, len(text) + 1))
        return spans, inside, at


def _measure_partial_tag(text: str, start: int, tag: str) -> int:
    """Return the length of the longest beginning of a tag with which a text ends, after `start`."""
    return next((size for size in range(len(tag) - 1, 0, -1) if text.endswith(tag[:size], start)), 0)


def _count_decided(ends: Sequence[int], at: int, rest_at: int) -> int:
    """Return how many tokens are decided if the last tag ends at `at`, and one may begin at `rest_at`."""
    count = bisect_right(ends, rest_at)
    start = ends[count - 1] if count else 0
    return count + (count < len(ends) and start < at)  # a token that overlaps the last tag is reasoning


def _mark(ends: Sequence[int], spans: Sequence[tuple[int, int]]) -> list[bool]:
    """Return for each token, by its end, whether it overlaps one of the spans, which are in order."""
    marks, start, first = [], 0, 0
    for end in ends:
        while first < len(spans) and spans[first][1] <= start:
            first += 1
        marks.append(first < len(spans) and spans[first][0] < end and start < spans[first][1])
        start = end
    return marks


def _end_offsets(texts: Sequence[str]) -> list[int]:
    """The end offset of each text within their concatenation."""
    ends, end = [], 0
    for text in texts:
        end += len(text)
        ends.append(end)
    return ends
