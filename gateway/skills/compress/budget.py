"""Chooses the words that stay under a token budget: blocks first, by rank, then words, by surprisal.

As in LLMLingua (arXiv 2310.05736), a coarse step selects whole blocks up to a multiple of the budget. A fine
step then selects words within each block by the block's share, which spreads the cuts evenly. As in
LongLLMLingua (arXiv 2310.06839), shares grow with a block's rank.
"""

from collections.abc import Sequence
from typing import NamedTuple

from .words import Kind, Unit

GRANULARITY = 2.0
"""Blocks are selected up to this multiple of the budget: LLMLingua's granular control coefficient."""
WHOLE = 1.25
"""The multiple if numbers are removed with their block. Selected blocks then stay nearly whole, which worked
examples require."""
SPREAD = 0.4
"""The best block's share is this fraction above the mean, and the last block's as much below."""
LEAST = 0.05
"""The minimum share of removable tokens that stays. Beyond a factor of twenty the text is unreadable."""


class Block(NamedTuple):
    """The words of a block, the tokens of each, and the mean surprisal of each in nats per token. `score`
    ranks the block."""

    units: Sequence[Unit]
    cost: Sequence[int]
    value: Sequence[float]
    score: float = 0.0


class Chosen(NamedTuple):
    """For each block, which of its words stay. `tokens` is the number of tokens that stay. `left_out` counts
    the blocks of which only protected words stay."""

    stays: Sequence[Sequence[bool]]
    tokens: int
    left_out: int


def least(found: Sequence[Block], *, drop: bool = False) -> int:
    """Return the number of tokens that stay under any budget."""
    fixed = [sum(block.cost) - _free(block, drop=drop) for block in found]
    return sum(fixed) + round(LEAST * sum(_free(block, drop=drop) for block in found))


def _free(block: Block, *, drop: bool) -> int:
    """Return the number of removable tokens of a block."""
    going = (Kind.WORD, Kind.HELD) if drop else (Kind.WORD,)
    stays = _Staying(block)
    for at, unit in enumerate(block.units):
        if unit.kind is not Kind.LOOSE and unit.kind not in going:
            stays.add(at)
    return sum(block.cost) - stays.tokens


class _Staying:
    """The words of one block that stay. A word that stays brings along the attached words of its sentence."""

    def __init__(self, block: Block) -> None:
        self.flags = [False] * len(block.units)
        self.tokens = 0
        self.block = block
        self._loose: dict[int, list[int]] = {}
        for at, unit in enumerate(block.units):
            if unit.kind is Kind.LOOSE:
                self._loose.setdefault(unit.sentence, []).append(at)

    def price(self, at: int) -> int:
        """Return the tokens added if the word stays, including the attached words of its sentence."""
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
        """Keep words within the budget, those of highest surprisal per token first. Return the remaining
        budget."""
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
        """Keep whole sentences within the budget, in their order. Return the remaining budget."""
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
    """Choose the words that stay within a total of `budget` tokens, or more if protected words need more.

    `ranked`: a block's share also depends on its rank. `drop`: the numbers of a block that is not selected
    are removed too, and the remaining budget goes to whole sentences of such blocks.
    """
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
    """Select the best blocks, as many as the fine step can use. With `drop`, select only blocks whose numbers
    fit the budget."""
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
    """Distribute the budget over the blocks in text order. What one block cannot use goes to the next, and at
    the end to the best blocks with words left. Return the remaining budget."""
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
