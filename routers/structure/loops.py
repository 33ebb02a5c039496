"""Whether a text goes round in circles."""

from collections.abc import Iterator, Sequence

LONGEST_BLOCK = 64
TIMES = 6
COVER = 48
TAIL = LONGEST_BLOCK * TIMES
FEW = 4
VARIED = 0.8


def looping(texts: Sequence[str]) -> bool:
    """Whether the tail of a draft's tokens is one block, again and again.

    The block has at most 64 tokens, and its repetition fills at least six times its length and 48 tokens. A
    monotonous block must fill the whole tail that is looked at, 384 tokens: one of fewer than 4 different
    tokens, or where a fifth of the tokens or more stood in it before. Rows of zeros, rules, empty tables and
    boards are monotonous; a sentence that a small model can't leave is not. Only the equality of tokens counts,
    and the cost is linear in the tail.
    """
    if len(texts) < COVER:
        return False
    tail = texts[: -TAIL - 1 : -1]
    return any(_repeats(tail, period, agreed) for period, agreed in _agreements(tail))


def stuck(texts: Sequence[str]) -> bool:
    """Whether a draft has been looping for so long that nobody can have asked for it: all of the tail that `looping`
    looks at is one block again and again, however monotonous."""
    tail = texts[: -TAIL - 1 : -1]
    return len(tail) == TAIL and any(period + agreed == TAIL for period, agreed in _agreements(tail))


def _repeats(tail: Sequence[str], period: int, agreed: int) -> bool:
    cover = period + agreed
    if cover < max(COVER, TIMES * period):
        return False
    different = len(set(tail[:period]))
    return cover == TAIL or (different >= FEW and different > VARIED * period)


def _agreements(tail: Sequence[str]) -> Iterator[tuple[int, int]]:
    """How far `tail` agrees with itself when it is moved by each length that a block may have.

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
