"""Splits a text's words into blocks that are ranked against each other: paragraphs, passages, examples."""

import re
from collections.abc import Sequence

from .words import Kind, Unit

LEAST, MOST = 60, 1600
"""Characters. A paragraph shorter than `MIN_CHARS` joins the next; one longer than `MAX_CHARS` is split at
sentence ends."""
ANSWERS = re.compile(
    r"(?i)(?:a|answer|output|assistant|solution|response|reply|antwort|respuesta|答案?|回答)\s*[:：]"
)
"""A label that begins the answer of an example."""


def blocks(text: str, found: Sequence[Unit]) -> list[tuple[int, int]]:
    """Split all words, in order, into blocks. Each block is the index of its first word and the index after
    its last."""
    edges, begun = [0], 0
    for at, unit in enumerate(found):
        if not at:
            continue
        before = found[at - 1]
        length = before.end - found[begun].start
        lines = text.count("\n", before.end, unit.start)
        parted = lines > 1 and length >= LEAST and not ANSWERS.match(text, unit.start)
        long = unit.end - found[begun].start > MOST and unit.sentence != before.sentence
        if parted or long:
            edges.append(at)
            begun = at
    return [(start, end) for start, end in zip(edges, [*edges[1:], len(found)], strict=True) if start < end]


def may_lose(found: Sequence[Unit]) -> bool:
    """Whether at least one word may be removed."""
    return any(unit.kind is Kind.WORD for unit in found)
