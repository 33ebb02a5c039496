"""Spans of a text: how they are merged, what lies between them, and its lines."""

import re
from collections.abc import Iterator, Sequence

Span = tuple[int, int]
"""Start offset and end offset (exclusive). Lists of spans are sorted and neither touch nor overlap."""
LINE = re.compile(r"[^\n]*\n|[^\n]+")


def merge_spans(spans: Sequence[Span]) -> list[Span]:
    """Sort spans, merge those that touch or overlap, and drop empty ones."""
    result: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def find_gaps(spans: Sequence[Span], length: int) -> list[Span]:
    """Return the parts of a text of `length` characters that no span covers."""
    edges = [0, *(edge for span in spans for edge in span), length]
    return [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end]


def iterate_lines(text: str) -> Iterator[Span]:
    """Yield the lines of a text, with their ends."""
    return (line.span() for line in LINE.finditer(text))
