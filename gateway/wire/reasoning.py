"""Which tokens of an answer are reasoning that the model writes into it, between `<think>` and `</think>`."""

from collections.abc import Sequence

THINK, THINK_END = "<think>", "</think>"
"""Between them stands the reasoning of models whose server does not send it apart."""

OPENING = THINK[0]
"""Text without it begins no tag, and ends none."""


class Thinking:
    """Follows the tags through an answer. Whoever holds tokens that it can't tell yet asks again, with those after
    them."""

    def __init__(self) -> None:
        self.inside = False
        """Whether the text so far ends within reasoning."""

    def marks(self, texts: Sequence[str], *, last: bool = False) -> list[bool] | None:
        """For each token whether it is reasoning, tags included, be it only in part; None where the last of them may
        be half a tag, unless they are the `last`."""
        text = "".join(texts)
        spans, inside, at = self._spans(text)
        tag = THINK_END if inside else THINK
        if not last and any(text.endswith(tag[:size], at) for size in range(1, len(tag))):
            return None
        self.inside = inside
        marks, start = [], 0
        for end in _ends(texts):
            marks.append(any(start < stop and begin < end for begin, stop in spans))
            start = end
        return marks

    def _spans(self, text: str) -> tuple[list[tuple[int, int]], bool, int]:
        """Where the text is reasoning, whether it ends within some, and where its last tag ends. What is open on either
        side reaches over that end."""
        spans: list[tuple[int, int]] = []
        inside, begin, at = self.inside, -1, 0
        while (found := text.find(THINK_END if inside else THINK, at)) >= 0:
            if inside:
                at = found + len(THINK_END)
                spans.append((begin, at))
            else:
                begin, at = found, found + len(THINK)
            inside = not inside
        if inside:
            spans.append((begin, len(text) + 1))
        return spans, inside, at


def _ends(texts: Sequence[str]) -> list[int]:
    """Where each of the texts ends, when they are joined."""
    ends, end = [], 0
    for text in texts:
        end += len(text)
        ends.append(end)
    return ends
