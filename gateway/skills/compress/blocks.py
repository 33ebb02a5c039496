"""A text's words in blocks that are ranked against one another: paragraphs, passages, examples."""

import re
from collections.abc import Sequence

from .words import Kind, Unit

LEAST, MOST = 60, 1600
"""Characters: shorter paragraphs join the next, longer ones are cut at a sentence's end."""
ANSWERS = re.compile(
    r"(?i)(?:a|answer|output|assistant|solution|response|reply|antwort|respuesta|答案?|回答)\s*[:：]"
)
"""What begins the second part of an example."""


def blocks(text: str, found: Sequence[Unit]) -> list[tuple[int, int]]:
    """From which unit to before which, each: all units, in order."""
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
    """Whether anything of a block may go."""
    return any(unit.kind is Kind.WORD for unit in found)
