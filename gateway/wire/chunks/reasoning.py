"""Finds the reasoning that a model writes into its answer between `<think>` and `</think>`."""

from collections.abc import Sequence

THINK, THINK_END = "<think>", "</think>"
"""Tags around the reasoning, used if the server does not send reasoning separately."""

TAG_START = THINK[0]
"""Text without this character neither begins nor ends a tag."""


class ReasoningTracker:
    """Follows the tags through one answer. If the last tokens may be part of a tag, the caller holds them and
    passes them again with the tokens that follow."""

    def __init__(self) -> None:
        self.is_inside = False
        """Whether the text so far ends within reasoning."""

    def mark_tokens(self, texts: Sequence[str], *, is_last: bool = False) -> list[bool] | None:
        """For each token, whether it is reasoning. A token that only overlaps reasoning or its tags counts.
        None if the last tokens may be an incomplete tag; with `is_last` they are treated as text."""
        text = "".join(texts)
        spans, inside, at = self._find_spans(text)
        tag = THINK_END if inside else THINK
        if not is_last and any(text.endswith(tag[:size], at) for size in range(1, len(tag))):
            return None
        self.is_inside = inside
        marks, start = [], 0
        for end in _end_offsets(texts):
            marks.append(any(start < stop and begin < end for begin, stop in spans))
            start = end
        return marks

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


def _end_offsets(texts: Sequence[str]) -> list[int]:
    """The end offset of each text within their concatenation."""
    ends, end = [], 0
    for text in texts:
        end += len(text)
        ends.append(end)
    return ends
