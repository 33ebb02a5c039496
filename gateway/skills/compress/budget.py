"""Which words stay under a budget of tokens: blocks first, by rank, then words, by what they tell.

After LLMLingua (arXiv 2310.05736): a coarse choice of whole blocks to a multiple of the budget, then a fine one within
each by its own share, so that what is cut is spread evenly; and LongLLMLingua (2310.06839): shares that grow with a
block's rank.
"""

from collections.abc import Sequence
from typing import NamedTuple

from .words import Kind, Unit

GRANULARITY = 2.0
"""Blocks are kept until together they have so many times the budget: LLMLingua's granular control coefficient."""
WHOLE = 1.25
"""The same where numbers go with their block: what is kept is kept nearly whole then, as worked examples have to be."""
SPREAD = 0.4
"""The best block's share is this much above the mean one, and the last one's as much below."""
LEAST = 0.05
"""Of the tokens that may go, the share that stays: beyond twenty times nothing is left that could be read."""


class Block(NamedTuple):
    """Words with the tokens that each takes and what each tells, in nats a token; `score` ranks the block."""

    units: Sequence[Unit]
    cost: Sequence[int]
    value: Sequence[float]
    score: float = 0.0


class Chosen(NamedTuple):
    """For each block which of its units stay, and the tokens that these take. `left_out` counts blocks of which only
    that stays which has to."""

    stays: Sequence[Sequence[bool]]
    tokens: int
    left_out: int


def least(found: Sequence[Block], *, drop: bool = False) -> int:
    """Tokens that stay whatever the budget."""
    fixed = [sum(block.cost) - _free(block, drop=drop) for block in found]
    return sum(fixed) + round(LEAST * sum(_free(block, drop=drop) for block in found))


def _free(block: Block, *, drop: bool) -> int:
    """Tokens of what may go."""
    going = (Kind.WORD, Kind.HELD) if drop else (Kind.WORD,)
    stays = _Staying(block)
    for at, unit in enumerate(block.units):
        if unit.kind is not Kind.LOOSE and unit.kind not in going:
            stays.add(at)
    return sum(block.cost) - stays.tokens


class _Staying:
    """Which of a block's units stay, with what is loose of their sentences."""

    def __init__(self, block: Block) -> None:
        self.flags = [False] * len(block.units)
        self.tokens = 0
        self.block = block
        self._loose: dict[int, list[int]] = {}
        for at, unit in enumerate(block.units):
            if unit.kind is Kind.LOOSE:
                self._loose.setdefault(unit.sentence, []).append(at)

    def price(self, at: int) -> int:
        """Tokens that it takes to let the unit stay as well."""
        sentence = self.block.units[at].sentence
        return self.block.cost[at] + sum([self.block.cost[loose] for loose in self._loose.get(sentence, ())])

    def add(self, at: int) -> None:
        if self.flags[at]:
            return
        self.tokens += self.price(at)
        self.flags[at] = True
        for loose in self._loose.pop(self.block.units[at].sentence, ()):
            self.flags[loose] = True

    def fill(self, budget: int) -> int:
        """Lets words stay, those first that tell most a token, as far as the budget goes. Gives what is left of it."""
        value = self.block.value
        going = enumerate(zip(self.block.units, self.flags, strict=True))
        words = [at for at, (unit, stays) in going if unit.kind is Kind.WORD and not stays]
        for at in sorted(words, key=lambda at: -value[at]):
            if budget <= 0:
                break
            if (price := self.price(at)) <= budget:
                self.add(at)
                budget -= price
        return budget

    def fill_sentences(self, budget: int) -> int:
        """The same by whole sentences, in their order."""
        sentences: dict[int, list[int]] = {}
        for at, unit in enumerate(self.block.units):
            if not self.flags[at]:
                sentences.setdefault(unit.sentence, []).append(at)
        for places in sentences.values():
            price = sum([self.block.cost[at] for at in places])
            if 0 < price <= budget:
                for at in places:
                    self.add(at)
                budget -= price
        return budget


def choose(found: Sequence[Block], budget: int, *, ranked: bool = False, drop: bool = False) -> Chosen:
    """What stays of blocks that may have `budget` tokens in all; more only where more has to stay. `ranked`: shares go
    by rank too. `drop`: the numbers of a block that is left out go with it, and what is left of the budget goes to
    whole sentences of such blocks."""
    budget = max(budget, least(found, drop=drop))
    order = sorted(range(len(found)), key=lambda at: -found[at].score)
    kept = _coarse(found, order, budget, drop=drop)
    staying = [_Staying(block) for block in found]
    for at, block in enumerate(found):
        for place, unit in enumerate(block.units):
            held = unit.kind is Kind.HELD and (not drop or at in kept)
            if unit.kind is Kind.FIXED or held:
                staying[at].add(place)
    left = budget - sum(one.tokens for one in staying)
    left = _fine(staying, [at for at in order if at in kept], left, ranked)
    for at in order if drop else ():
        left = staying[at].fill_sentences(left)
    return Chosen([one.flags for one in staying], sum(one.tokens for one in staying), len(found) - len(kept))


def _coarse(found: Sequence[Block], order: Sequence[int], budget: int, *, drop: bool) -> frozenset[int]:
    """The blocks of which words may stay: as many of the best as the fine choice can make use of, and where numbers
    stay with their block, no more than it can pay for."""
    kept: list[int] = []
    tokens = sum(sum(block.cost) - _free(block, drop=drop) for block in found)
    room = (WHOLE if drop else GRANULARITY) * (budget - tokens)
    numbers = 0
    for at in order:
        if kept and room <= 0:
            break
        free = _free(found[at], drop=drop)
        of_numbers = free - _free(found[at], drop=False)
        if drop and tokens + numbers + of_numbers > budget:
            continue
        numbers += of_numbers
        room -= free
        kept.append(at)
    return frozenset(kept)


def _fine(staying: Sequence[_Staying], order: Sequence[int], budget: int, ranked: bool) -> int:
    """Shares the budget out in the text's order; what one block could not use goes to the next, and in the end to
    whoever has the best words left. Gives what is left even then."""
    weights = {at: _weight(rank, len(order)) if ranked else 1.0 for rank, at in enumerate(order)}
    free = {at: sum(staying[at].block.cost) - staying[at].tokens for at in order}
    total = sum(weights[at] * free[at] for at in order)
    left = float(budget)
    for at in sorted(order):
        part = weights[at] * free[at]
        if total > 0 and left > 0:
            share = left * part / total
            left -= share - staying[at].fill(round(min(share, left)))
        total -= part
    rest = int(left)
    for at in order:
        rest = staying[at].fill(rest)
    return rest


def _weight(rank: int, count: int) -> float:
    return 1.0 + SPREAD * (1.0 - 2.0 * rank / (count - 1)) if count > 1 else 1.0
