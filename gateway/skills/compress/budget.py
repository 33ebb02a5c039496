"""Chooses the words that stay under a token budget: blocks first, by rank, then words, by surprisal.

As in LLMLingua (arXiv 2310.05736), a coarse step selects whole blocks up to a multiple of the budget. A fine
step then selects words within each block by the block's share, which spreads the cuts evenly. As in
LongLLMLingua (arXiv 2310.06839), shares grow with a block's rank.
"""

from collections.abc import Sequence
from typing import NamedTuple

from .words import Word, WordKind

GRANULARITY = 2.0
"""Blocks are selected up to this multiple of the budget: LLMLingua's granular control coefficient."""
WHOLE_BLOCKS = 1.25
"""The multiple if numbers are removed with their block. Selected blocks then stay nearly whole, which worked
examples require."""
SHARE_SPREAD = 0.4
"""The best block's share is this fraction above the mean, and the last block's as much below."""
MIN_SHARE = 0.05
"""The minimum share of removable tokens that stays. Beyond a factor of twenty the text is unreadable."""


class Block(NamedTuple):
    """The words of a block, the tokens of each, and the mean surprisal of each in nats per token. `score`
    ranks the block."""

    words: Sequence[Word]
    token_counts: Sequence[int]
    surprisals: Sequence[float]
    score: float = 0.0


class Selection(NamedTuple):
    """For each block, which of its words stay. `tokens` is the number of tokens that stay. `left_out` counts
    the blocks of which only protected words stay."""

    keep_flags: Sequence[Sequence[bool]]
    tokens: int
    left_out: int


def min_tokens(blocks: Sequence[Block], *, drop: bool = False) -> int:
    """Return the number of tokens that stay under any budget."""
    fixed = [sum(block.token_counts) - _removable_tokens(block, drop=drop) for block in blocks]
    return sum(fixed) + round(MIN_SHARE * sum(_removable_tokens(block, drop=drop) for block in blocks))


def _removable_tokens(block: Block, *, drop: bool) -> int:
    """Return the number of removable tokens of a block."""
    going = (WordKind.REMOVABLE, WordKind.BLOCK_BOUND) if drop else (WordKind.REMOVABLE,)
    selection = _BlockSelection(block)
    for at, unit in enumerate(block.words):
        if unit.kind is not WordKind.ATTACHED and unit.kind not in going:
            selection.add(at)
    return sum(block.token_counts) - selection.tokens


class _BlockSelection:
    """The words of one block that stay. A word that stays brings along the attached words of its sentence."""

    def __init__(self, block: Block) -> None:
        self.flags = [False] * len(block.words)
        self.tokens = 0
        self.block = block
        self._loose: dict[int, list[int]] = {}
        for at, unit in enumerate(block.words):
            if unit.kind is WordKind.ATTACHED:
                self._loose.setdefault(unit.sentence, []).append(at)

    def added_tokens(self, at: int) -> int:
        """Return the tokens added if the word stays, including the attached words of its sentence."""
        sentence = self.block.words[at].sentence
        return self.block.token_counts[at] + sum(
            [self.block.token_counts[loose] for loose in self._loose.get(sentence, ())]
        )

    def add(self, at: int) -> None:
        if self.flags[at]:
            return
        self.tokens += self.added_tokens(at)
        self.flags[at] = True
        for loose in self._loose.pop(self.block.words[at].sentence, ()):
            self.flags[loose] = True

    def fill_with_words(self, budget: int) -> int:
        """Keep words within the budget, those of highest surprisal per token first. Return the remaining
        budget."""
        value = self.block.surprisals
        going = enumerate(zip(self.block.words, self.flags, strict=True))
        words = [at for at, (unit, stays) in going if unit.kind is WordKind.REMOVABLE and not stays]
        for at in sorted(words, key=lambda at: -value[at]):
            if budget <= 0:
                break
            if (price := self.added_tokens(at)) <= budget:
                self.add(at)
                budget -= price
        return budget

    def fill_with_sentences(self, budget: int) -> int:
        """Keep whole sentences within the budget, in their order. Return the remaining budget."""
        sentences: dict[int, list[int]] = {}
        for at, unit in enumerate(self.block.words):
            if not self.flags[at]:
                sentences.setdefault(unit.sentence, []).append(at)
        for places in sentences.values():
            price = sum([self.block.token_counts[at] for at in places])
            if 0 < price <= budget:
                for at in places:
                    self.add(at)
                budget -= price
        return budget


def choose_words(
    blocks: Sequence[Block], budget: int, *, ranked: bool = False, drop: bool = False
) -> Selection:
    """Choose the words that stay within a total of `budget` tokens, or more if protected words need more.

    `ranked`: a block's share also depends on its rank. `drop`: the numbers of a block that is not selected
    are removed too, and the remaining budget goes to whole sentences of such blocks.
    """
    budget = max(budget, min_tokens(blocks, drop=drop))
    ranking = sorted(range(len(blocks)), key=lambda at: -blocks[at].score)
    selected = _choose_blocks(blocks, ranking, budget, drop=drop)
    selections = [_BlockSelection(block) for block in blocks]
    for at, block in enumerate(blocks):
        for place, unit in enumerate(block.words):
            is_held = unit.kind is WordKind.BLOCK_BOUND and (not drop or at in selected)
            if unit.kind is WordKind.PROTECTED or is_held:
                selections[at].add(place)
    remaining = budget - sum(one.tokens for one in selections)
    remaining = _distribute_budget(selections, [at for at in ranking if at in selected], remaining, ranked)
    for at in ranking if drop else ():
        remaining = selections[at].fill_with_sentences(remaining)
    return Selection(
        [one.flags for one in selections], sum(one.tokens for one in selections), len(blocks) - len(selected)
    )


def _choose_blocks(
    blocks: Sequence[Block], ranking: Sequence[int], budget: int, *, drop: bool
) -> frozenset[int]:
    """Select the best blocks, as many as the fine step can use. With `drop`, select only blocks whose numbers
    fit the budget."""
    selected: list[int] = []
    tokens = sum(sum(block.token_counts) - _removable_tokens(block, drop=drop) for block in blocks)
    room = (WHOLE_BLOCKS if drop else GRANULARITY) * (budget - tokens)
    number_tokens = 0
    for at in ranking:
        if selected and room <= 0:
            break
        free = _removable_tokens(blocks[at], drop=drop)
        block_numbers = free - _removable_tokens(blocks[at], drop=False)
        if drop and tokens + number_tokens + block_numbers > budget:
            continue
        number_tokens += block_numbers
        room -= free
        selected.append(at)
    return frozenset(selected)


def _distribute_budget(
    selections: Sequence[_BlockSelection], ranking: Sequence[int], budget: int, ranked: bool
) -> int:
    """Distribute the budget over the blocks in text order. What one block cannot use goes to the next, and at
    the end to the best blocks with words left. Return the remaining budget."""
    weights = {at: _rank_weight(rank, len(ranking)) if ranked else 1.0 for rank, at in enumerate(ranking)}
    free = {at: sum(selections[at].block.token_counts) - selections[at].tokens for at in ranking}
    total = sum(weights[at] * free[at] for at in ranking)
    remaining = float(budget)
    for at in sorted(ranking):
        part = weights[at] * free[at]
        if total > 0 and remaining > 0:
            share = remaining * part / total
            remaining -= share - selections[at].fill_with_words(round(min(share, remaining)))
        total -= part
    rest = int(remaining)
    for at in ranking:
        rest = selections[at].fill_with_words(rest)
    return rest


def _rank_weight(rank: int, count: int) -> float:
    return 1.0 + SHARE_SPREAD * (1.0 - 2.0 * rank / (count - 1)) if count > 1 else 1.0
