"""Prompt compression: removes what a small model could have guessed, before a large model is paid to read it.

A variant of the LLMLingua family (arXiv 2310.05736, 2310.06839). The small model reads the text once, which
gives each token's log-probability. Blocks are ranked, then words are chosen under a budget. Whole words stay,
in their order. The time is linear in the text's length.
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
"""Maximum relative deviation from the target."""
CLOSER = 0.02
"""Relative deviation above which words are chosen again. The text that stays does not have exactly the tokens
that it had within the whole text."""
ROUNDS = 3
QUESTION = 1000
"""Characters from the question's end that precede a block when it is scored."""
AT_ONCE = 8
"""Blocks of one text that are scored concurrently. Servers that batch requests take less time for all."""
LARGE = 20_000
"""Characters from which a text is processed in a thread."""
JUNK = 0.05
"""Share of non-text characters from which a text counts as binary."""

T = TypeVar("T")


class Scorer(Protocol):
    """The small model that scores texts."""

    async def surprises(self, text: str, given: str = "") -> Sequence[Surprise]:
        """Return the surprisal of each token of `text` after `given`. Raises Unavailable."""
        ...

    async def count(self, text: str) -> int:
        """Return the number of tokens of a text. Raises Unavailable."""
        ...


class Goal(NamedTuple):
    """The prompt's tokens after compression, as a share of those before or as a number. A prompt below
    `min_tokens` is not compressed. `drop`: see `budget.choose_words`."""

    ratio: float | None = None
    tokens: int | None = None
    min_tokens: int = 0
    question_aware: bool = True
    drop: bool = False

    def target(self, before: int) -> int:
        return self.tokens if self.tokens is not None else round((self.ratio or 1.0) * before)


class Plan(NamedTuple):
    """The work of a compression: `reads` is the number of tokens that the small model reads; `sample` is the
    longest text."""

    before: int
    target: int
    reads: int
    sample: str


class Compressed(NamedTuple):
    """The result. `texts` holds only changed texts. `why` says why the target was missed or nothing was done.

    `left_out` counts the blocks, out of `blocks`, of which only protected words stay.
    """

    texts: Mapping[Path, str]
    before: int
    after: int
    target: int
    why: str
    method: str = "none"
    blocks: int = 0
    left_out: int = 0


class _Open(NamedTuple):
    """A text that contains removable words."""

    text: Text
    units: Sequence[Unit]
    blocks: Sequence[tuple[int, int]]


async def worth_it(plan: Plan) -> str:
    """Accept every plan: return no objection."""
    return ""


async def compress(
    found: Turns, goal: Goal, scorer: Scorer, why_not: Callable[[Plan], Awaitable[str]] = worth_it
) -> Compressed:
    """Compress a request's texts to the goal, unless `find_objection` returns an objection. Raises
    Unavailable."""
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
    """Return the reason to skip compression, or an empty string."""
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
    """Return the texts with removable words, and whether any text was skipped as binary."""
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
    """Whether a text is binary data that was decoded as text."""
    if text.isprintable() or not text:
        return False
    junk = sum([letter == "\ufffd" or _is_control(letter) for letter in text])
    return "\0" in text or junk > JUNK * len(text)


def _is_control(letter: str) -> bool:
    return letter not in "\t\n\r\f\v" and unicodedata.category(letter) in ("Cc", "Co", "Cn", "Cs")


async def _measured(one: _Open, scorer: Scorer, question: str) -> list[Block]:
    """Score the blocks of one text with the small model."""
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
    """Score a block alone and after the question. The block is relevant as far as the question makes it
    easier to guess."""
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
    """Run coroutines concurrently and return their results. The first failure cancels the others."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise


def tell(text: str, cut: Sequence[Unit], told: Sequence[Surprise]) -> tuple[list[int], list[float]]:
    """Return the token count of each word, and its mean surprisal in nats per token.

    A token that separates words belongs to the word after it. A word without known surprisal, such as a
    text's first, gets the mean of all others.
    """
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
    """Choose words, count the tokens of the result, and choose again while it is too far from the target."""
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
    """Run `work` in a thread if `size` characters would block the event loop for long, else directly."""
    if size < LARGE:
        return work(*args, **more)
    return await asyncio.to_thread(work, *args, **more)
