"""Detection of drafts that repeat themselves without end."""

from collections.abc import Iterator, Sequence

LONGEST_BLOCK = 64
"""Maximum tokens of a repeated block."""
TIMES = 6
"""Least multiple of its length that a block's repetition must fill."""
COVER = 48
"""Least number of tokens that a block's repetition must fill."""
TAIL = LONGEST_BLOCK * TIMES
"""Tokens at a draft's end that are checked."""
FEW = 4
"""Distinct tokens below which a block is monotonous."""
VARIED = 0.8
"""Share of distinct tokens up to which a block is monotonous."""


def looping(texts: Sequence[str]) -> bool:
    """True if the tail of a draft's tokens repeats one block.

    The block has at most 64 tokens, and its repetition fills at least six times its length and at least 48
    tokens. A monotonous block must fill the whole tail of 384 tokens: a block with fewer than 4 distinct
    tokens, or with at most 80 % distinct tokens. Rows of zeros, rules, empty tables and boards are monotonous
    and may be wanted; a sentence that a small model repeats is not. Only the equality of tokens matters. Time
    is linear in the tail.
    """
    if len(texts) < COVER:
        return False
    tail = texts[: -TAIL - 1 : -1]
    return any(_repeats(tail, period, agreed) for period, agreed in _agreements(tail))


def stuck(texts: Sequence[str]) -> bool:
    """True if the whole tail of 384 tokens repeats one block, monotonous or not."""
    tail = texts[: -TAIL - 1 : -1]
    return len(tail) == TAIL and any(period + agreed == TAIL for period, agreed in _agreements(tail))


def _repeats(tail: Sequence[str], period: int, agreed: int) -> bool:
    cover = period + agreed
    if cover < max(COVER, TIMES * period):
        return False
    different = len(set(tail[:period]))
    return cover == TAIL or (different >= FEW and different > VARIED * period)


def _agreements(tail: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield each possible block length, and how many tokens of `tail` match when shifted by it.

    The Z algorithm (Gusfield, "Algorithms on Strings, Trees, and Sequences", 1997, section 1.4).
    """
    agreed = [0]
    left = right = 0
    for period in range(1, min(LONGEST_BLOCK + 1, len(tail))):
        length = min(right - period, agreed[period - left]) if period < right else 0
        while period + length < len(tail) and tail[length] == tail[period + length]:
            length += 1
        agreed.append(length)
        if period + length > right:
            left, right = period, period + length
        yield period, length
