"""Detection of drafts that repeat themselves without end."""

from collections.abc import Iterator, Sequence

MAX_BLOCK = 64
"""Maximum tokens of a repeated block."""
MIN_REPEATS = 6
"""Least multiple of its length that a block's repetition must fill."""
MIN_COVER = 48
"""Least number of tokens that a block's repetition must fill."""
MAX_TAIL = MAX_BLOCK * MIN_REPEATS
"""Tokens at a draft's end that are checked."""
MIN_DISTINCT = 4
"""Distinct tokens below which a block is monotonous."""
DISTINCT_SHARE = 0.8
"""Share of distinct tokens up to which a block is monotonous."""


def is_looping(texts: Sequence[str]) -> bool:
    """True if the tail of a draft's tokens repeats one block.

    The block has at most 64 tokens, and its repetition fills at least six times its length and at least 48
    tokens. A monotonous block must fill the whole tail of 384 tokens: a block with fewer than 4 distinct
    tokens, or with at most 80 % distinct tokens. Rows of zeros, rules, empty tables and boards are monotonous
    and may be wanted; a sentence that a small model repeats is not. Only the equality of tokens matters. Time
    is linear in the tail.
    """
    if len(texts) < MIN_COVER:
        return False
    tail = texts[: -MAX_TAIL - 1 : -1]
    return any(_is_loop(tail, period, matching) for period, matching in _match_shifts(tail))


def is_stuck(texts: Sequence[str]) -> bool:
    """True if the whole tail of 384 tokens repeats one block, monotonous or not."""
    tail = texts[: -MAX_TAIL - 1 : -1]
    return len(tail) == MAX_TAIL and any(
        period + matching == MAX_TAIL for period, matching in _match_shifts(tail)
    )


def _is_loop(tail: Sequence[str], period: int, matching: int) -> bool:
    cover = period + matching
    if cover < max(MIN_COVER, MIN_REPEATS * period):
        return False
    distinct = len(set(tail[:period]))
    return cover == MAX_TAIL or (distinct >= MIN_DISTINCT and distinct > DISTINCT_SHARE * period)


def _match_shifts(tail: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield each possible block length, and how many tokens of `tail` match when shifted by it.

    The Z algorithm (Gusfield, "Algorithms on Strings, Trees, and Sequences", 1997, section 1.4).
    """
    lengths = [0]
    left = right = 0
    for period in range(1, min(MAX_BLOCK + 1, len(tail))):
        length = min(right - period, lengths[period - left]) if period < right else 0
        while period + length < len(tail) and tail[length] == tail[period + length]:
            length += 1
        lengths.append(length)
        if period + length > right:
            left, right = period, period + length
        yield period, length
