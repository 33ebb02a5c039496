"""Splits a text's words into blocks that are ranked against each other: paragraphs, passages, examples."""

import re
from collections.abc import Sequence

from .words import Word, WordKind

MIN_CHARS, MAX_CHARS = 60, 1600
"""Characters. A paragraph shorter than `MIN_CHARS` joins the next; one longer than `MAX_CHARS` is split at
sentence ends."""
ANSWER_LABEL = re.compile(
    r"(?i)(?:a|answer|output|assistant|solution|response|reply|antwort|respuesta|答案?|回答)\s*[:：]"
)
"""A label that begins the answer of an example."""


def split_blocks(text: str, words: Sequence[Word]) -> list[tuple[int, int]]:
    """Split all words, in order, into blocks. Each block is the index of its first word and the index after
    its last."""
    edges, begun = [0], 0
    for at, unit in enumerate(words):
        if not at:
            continue
        before = words[at - 1]
        length = before.end - words[begun].start
        lines = text.count("\n", before.end, unit.start)
        parted = lines > 1 and length >= MIN_CHARS and not ANSWER_LABEL.match(text, unit.start)
        long = unit.end - words[begun].start > MAX_CHARS and unit.sentence != before.sentence
        if parted or long:
            edges.append(at)
            begun = at
    return [(start, end) for start, end in zip(edges, [*edges[1:], len(words)], strict=True) if start < end]


def is_compressible(words: Sequence[Word]) -> bool:
    """Whether at least one word may be removed."""
    return any(unit.kind is WordKind.REMOVABLE for unit in words)
