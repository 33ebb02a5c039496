"""Prompt compression: what a small model could have guessed is left out before a large one is paid to read it.

The LLMLingua family (arXiv 2310.05736, 2310.06839) in our own way: one reading of the text by the small model gives
each token's log-probability; blocks are ranked, then words chosen under a budget, and what stays is whole words in
their order. Its time is linear in the text's length.
"""

import asyncio
import unicodedata
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from .blocks import blocks, may_lose
from .budget import Block, Chosen, choose
from .messages import Path, Text, Turns
from .surprisal import Surprise, Unspelled
from .words import Unit, joined, units

Why = Literal["", "empty", "short", "fits", "protected", "indivisible", "not_text"]
CLOSE = 0.05
"""How far from its target a compression may be."""
CLOSER = 0.02
"""How far it may be before it is chosen anew: what stays has not quite the tokens that it had in the whole text."""
ROUNDS = 3
QUESTION = 1000
"""Characters of the question's end that a block is read after."""
AT_ONCE = 8
"""Blocks of a text that are read at a time: servers that read several together take less time for all."""
LARGE = 20_000
"""Characters from which a text is worked on in a thread of its own."""
JUNK = 0.05
"""Share of characters that no text has, from which it is none."""

T = TypeVar("T")


class Scorer(Protocol):
    """The small model that reads."""

    async def surprises(self, text: str, given: str = "") -> Sequence[Surprise]:
        """Raises Unavailable."""
        ...

    async def count(self, text: str) -> int:
        """Its tokens of a text. Raises Unavailable."""
        ...


class Goal(NamedTuple):
    """The prompt's tokens after compression: a share of those before, or a number. Below `min_tokens` a prompt is left
    as it is. `drop`: see `budget.choose`."""

    ratio: float | None = None
    tokens: int | None = None
    min_tokens: int = 0
    question_aware: bool = True
    drop: bool = False

    def target(self, before: int) -> int:
        return self.tokens if self.tokens is not None else round((self.ratio or 1.0) * before)


class Plan(NamedTuple):
    """What a compression would take: `reads` tokens are read by the small model, a `sample` of the text first."""

    before: int
    target: int
    reads: int
    sample: str


class Compressed(NamedTuple):
    """`texts` are those that are others now. `why` tells why the target is not met, or nothing was done. `left_out`
    counts the blocks, of `blocks`, of which only that stayed which had to."""

    texts: Mapping[Path, str]
    before: int
    after: int
    target: int
    why: str
    method: str = "none"
    blocks: int = 0
    left_out: int = 0


class _Open(NamedTuple):
    """A text of which something may go."""

    text: Text
    units: Sequence[Unit]
    blocks: Sequence[tuple[int, int]]


async def worth_it(plan: Plan) -> str:
    """Says of no plan why not."""
    return ""


async def compress(
    found: Turns, goal: Goal, scorer: Scorer, why_not: Callable[[Plan], Awaitable[str]] = worth_it
) -> Compressed:
    """Compresses a request's texts to the goal, where `why_not` says nothing. Raises Unavailable."""
    try:
        return await _compress(found, goal, scorer, why_not)
    except Unspelled:
        return Compressed({}, 0, 0, 0, "unspelled")


async def _compress(
    found: Turns, goal: Goal, scorer: Scorer, why_not: Callable[[Plan], Awaitable[str]]
) -> Compressed:
    texts = [text for text in found.texts if text.text.strip()]
    opened, not_text = await in_thread(_opened, texts, size=sum(len(text.text) for text in texts))
    fixed = [text.text for text in texts if not any(text is one.text for one in opened)]
    beside = await scorer.count("\n".join(fixed)) if fixed else 0
    counts = [await scorer.count(one.text.text) for one in opened]
    before = beside + sum(counts)
    target = goal.target(before)
    aware = goal.question_aware and bool(found.question.strip())
    why: str = _idle(before, target, goal, bool(opened), not_text)
    if not why:
        longest = max(opened, key=lambda one: len(one.text.text)).text.text
        why = await why_not(Plan(before, target, sum(counts) * (2 if aware else 1), longest))
    if why:
        return Compressed({}, before, before, target, why)
    question = found.question.strip()[-QUESTION:] if aware else ""
    measured = [await _measured(one, scorer, question) for one in opened]
    return await _met(opened, measured, beside, before, target, goal, scorer, aware)


def _idle(before: int, target: int, goal: Goal, opened: bool, not_text: bool) -> Why:
    """Why there is nothing to do."""
    if not before:
        return "empty"
    if before <= target:
        return "fits"
    if before < goal.min_tokens:
        return "short"
    if not opened:
        return "not_text" if not_text else "protected"
    return ""


def _opened(texts: Sequence[Text]) -> tuple[list[_Open], bool]:
    """Those of which something may go, and whether one is left as it is for being no text."""
    found, not_text = [], False
    for text in texts:
        if text.whole:
            continue
        if is_junk(text.text):
            not_text = True
            continue
        cut = units(text.text, text.fixed)
        if may_lose(cut):
            found.append(_Open(text, cut, blocks(text.text, cut)))
    return found, not_text


def is_junk(text: str) -> bool:
    """Whether it is bytes that somebody has taken for text."""
    if text.isprintable() or not text:
        return False
    junk = sum([letter == "\ufffd" or _is_control(letter) for letter in text])
    return "\0" in text or junk > JUNK * len(text)


def _is_control(letter: str) -> bool:
    return letter not in "\t\n\r\f\v" and unicodedata.category(letter) in ("Cc", "Co", "Cn", "Cs")


async def _measured(one: _Open, scorer: Scorer, question: str) -> list[Block]:
    """Its blocks as the small model reads them."""
    text = one.text.text
    if question:
        slots = asyncio.Semaphore(AT_ONCE)
        parts = [one.units[a:b] for a, b in one.blocks]
        return await _all([_after(question, text, part, scorer, slots) for part in parts])
    told = await scorer.surprises(text)
    cost, value = await in_thread(tell, text, one.units, told, size=len(text))
    return [Block(one.units[a:b], cost[a:b], value[a:b], _mean(cost[a:b], value[a:b])) for a, b in one.blocks]


async def _after(
    question: str, text: str, cut: Sequence[Unit], scorer: Scorer, slots: asyncio.Semaphore
) -> Block:
    """A block as it is read alone, and after the question: what that makes easier to guess has to do with it."""
    start, end = cut[0].start, cut[-1].end
    part = text[start:end]
    shifted = [unit._replace(start=unit.start - start, end=unit.end - start) for unit in cut]
    async with slots:
        cost, value = tell(part, shifted, await scorer.surprises(part))
        if not may_lose(cut):
            return Block(cut, cost, value)
        _, asked = tell(part, shifted, await scorer.surprises(part, f"{question}\n\n"))
    gain = [alone - given for alone, given in zip(value, asked, strict=True)]
    value = [alone + max(0.0, more) for alone, more in zip(value, gain, strict=True)]
    return Block(cut, cost, value, _mean(cost, gain))


async def _all(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """What each gives; the first failure ends all."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise


def tell(text: str, cut: Sequence[Unit], told: Sequence[Surprise]) -> tuple[list[int], list[float]]:
    """Of each unit its tokens, and how much these tell on average, in nats. A token that parts words is of the word
    after it; one that nothing is known of, as of a text's first, is taken to tell what the others do."""
    cost = [0] * len(cut)
    total, known = [0.0] * len(cut), [0] * len(cut)
    at = 0
    for start, end, logprob in told:
        piece = text[start:end]
        place = start + len(piece) - len(piece.lstrip()) if piece.strip() else start
        while at + 1 < len(cut) and cut[at].end <= place:
            at += 1
        cost[at] += 1
        if logprob is not None and piece.strip():
            total[at] -= logprob
            known[at] += 1
    mean = sum(total) / max(1, sum(known))
    return cost, [tells / count if count else mean for tells, count in zip(total, known, strict=True)]


def _mean(cost: Sequence[int], value: Sequence[float]) -> float:
    return sum(count * tells for count, tells in zip(cost, value, strict=True)) / max(1, sum(cost))


async def _met(
    opened: Sequence[_Open],
    measured: Sequence[Sequence[Block]],
    beside: int,
    before: int,
    target: int,
    goal: Goal,
    scorer: Scorer,
    aware: bool,
) -> Compressed:
    """What stays is counted, and chosen anew where that is too far from the target."""
    flat = [block for found in measured for block in found]
    size = sum(len(one.text.text) for one in opened)
    budget = target - beside
    best: tuple[int, dict[Path, str], int] | None = None
    for _ in range(ROUNDS):
        chosen = await in_thread(choose, flat, budget, ranked=aware, drop=goal.drop, size=size)
        texts = _texts(opened, measured, chosen)
        after = beside + sum([await scorer.count(text) for text in texts.values() if text])
        if best is None or abs(after - target) < abs(best[0] - target):
            best = after, texts, chosen.left_out
        if abs(after - target) <= CLOSER * target or chosen.tokens > budget:
            break
        budget += target - after
    assert best is not None  # noqa: S101  there is a first round
    after, texts, left_out = best
    method = "perplexity+question" if aware else "perplexity"
    why = "protected" if after > target * (1 + CLOSE) else ""
    if after < target * (1 - CLOSE):
        why = "indivisible"
    return Compressed(texts, before, after, target, why, method, len(flat), left_out)


def _texts(opened: Sequence[_Open], measured: Sequence[Sequence[Block]], chosen: Chosen) -> dict[Path, str]:
    stays = iter(chosen.stays)
    out = {}
    for one, found in zip(opened, measured, strict=True):
        flags = [flag for _ in found for flag in next(stays)]
        out[one.text.path] = joined(one.text.text, one.units, flags)
    return out


async def in_thread(work: Callable[..., T], *args: Any, size: int, **more: Any) -> T:
    """Away from the event loop, where so many characters take long."""
    if size < LARGE:
        return work(*args, **more)
    return await asyncio.to_thread(work, *args, **more)
