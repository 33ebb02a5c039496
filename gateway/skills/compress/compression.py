"""Prompt compression: removes what a small model could have guessed, before a large model is paid to read it.

A variant of the LLMLingua family (arXiv 2310.05736, 2310.06839). The small model reads the text once, which
gives each token's log-probability. Blocks are ranked, then words are chosen under a budget. Whole words stay,
in their order. The time is linear in the text's length.
"""

import asyncio
import unicodedata
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from .blocks import is_compressible, split_blocks
from .budget import Block, Selection, choose_words
from .messages import BodyPath, PromptSegments, Segment
from .spans import Span
from .surprisal import TokenSurprisal, TokenTextMismatch
from .words import Word, join_words, split_words

SkipReason = Literal["", "empty", "short", "fits", "protected", "indivisible", "not_text"]
TOLERANCE = 0.05
"""Maximum relative deviation from the target."""
RETRY_TOLERANCE = 0.02
"""Relative deviation above which words are chosen again. The text that stays does not have exactly the tokens
that it had within the whole text."""
MAX_ROUNDS = 3
MAX_QUESTION_CHARS = 1000
"""Characters from the question's end that precede a block when it is scored."""
MAX_CONCURRENT_BLOCKS = 8
"""Blocks of one text that are scored concurrently. Servers that batch requests take less time for all."""
THREAD_CHARS = 20_000
"""Characters from which a text is processed in a thread."""
MAX_JUNK_SHARE = 0.05
"""Share of non-text characters from which a text counts as binary."""

T = TypeVar("T")


class SurprisalScorer(Protocol):
    """The small model that scores texts."""

    async def read_surprisals(self, text: str, context: str = "") -> Sequence[TokenSurprisal]:
        """Return the surprisal of each token of `text` after `given`. Raises Unavailable."""
        ...

    async def count_tokens(self, text: str) -> int:
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


class CompressionPlan(NamedTuple):
    """The work of a compression: `reads` is the number of tokens that the small model reads; `sample` is the
    longest text."""

    before: int
    target: int
    reads: int
    sample: str


class Dropped(NamedTuple):
    """What one text has lost: `words` of all its words, among them `sentences` whole ones. `spans` are the stretches of
    words that went, as offsets into the text before."""

    path: BodyPath
    words: int
    of_words: int
    sentences: int
    spans: Sequence[Span]


class Compressed(NamedTuple):
    """The result. `texts` holds only changed texts. `why` says why the target was missed or nothing was done.

    `left_out` counts the blocks, out of `blocks`, of which only protected words stay. `dropped` says what each text has
    lost.
    """

    texts: Mapping[BodyPath, str]
    before: int
    after: int
    target: int
    why: str
    method: str = "none"
    blocks: int = 0
    left_out: int = 0
    dropped: Sequence[Dropped] = ()


class _Candidate(NamedTuple):
    """A text that contains removable words."""

    segment: Segment
    words: Sequence[Word]
    blocks: Sequence[tuple[int, int]]


async def accept_any_plan(plan: CompressionPlan) -> str:
    """Accept every plan: return no objection."""
    return ""


async def compress(
    prompt: PromptSegments,
    goal: Goal,
    scorer: SurprisalScorer,
    find_objection: Callable[[CompressionPlan], Awaitable[str]] = accept_any_plan,
) -> Compressed:
    """Compress a request's texts to the goal, unless `find_objection` returns an objection. Raises
    Unavailable."""
    try:
        return await _compress(prompt, goal, scorer, find_objection)
    except TokenTextMismatch:
        return Compressed({}, 0, 0, 0, "unspelled")


async def _compress(
    prompt: PromptSegments,
    goal: Goal,
    scorer: SurprisalScorer,
    find_objection: Callable[[CompressionPlan], Awaitable[str]],
) -> Compressed:
    texts = [text for text in prompt.segments if text.text.strip()]
    candidates, not_text = await run_in_thread_if_large(
        _find_candidates, texts, size=sum(len(text.text) for text in texts)
    )
    protected_texts = [text.text for text in texts if not any(text is one.segment for one in candidates)]
    protected_tokens = await scorer.count_tokens("\n".join(protected_texts)) if protected_texts else 0
    counts = [await scorer.count_tokens(one.segment.text) for one in candidates]
    before = protected_tokens + sum(counts)
    target = goal.target(before)
    question_aware = goal.question_aware and bool(prompt.question.strip())
    why: str = _find_skip_reason(before, target, goal, bool(candidates), not_text)
    if not why:
        longest = max(candidates, key=lambda one: len(one.segment.text)).segment.text
        reads = sum(counts)
        if question_aware:  # each block alone, and after the question
            blocks = sum(len(one.blocks) for one in candidates)
            reads += reads + blocks * await scorer.count_tokens(prompt.question.strip()[-MAX_QUESTION_CHARS:])
        why = await find_objection(CompressionPlan(before, target, reads, longest))
    if why:
        return Compressed({}, before, before, target, why)
    question = prompt.question.strip()[-MAX_QUESTION_CHARS:] if question_aware else ""
    blocks_by_text = [await _measure_blocks(one, scorer, question) for one in candidates]
    return await _compress_to_target(
        candidates, blocks_by_text, protected_tokens, before, target, goal, scorer, question_aware
    )


def _find_skip_reason(
    before: int, target: int, goal: Goal, has_candidates: bool, not_text: bool
) -> SkipReason:
    """Return the reason to skip compression, or an empty string."""
    if not before:
        return "empty"
    if before <= target:
        return "fits"
    if before < goal.min_tokens:
        return "short"
    if not has_candidates:
        return "not_text" if not_text else "protected"
    return ""


def _find_candidates(texts: Sequence[Segment]) -> tuple[list[_Candidate], bool]:
    """Return the texts with removable words, and whether any text was skipped as binary."""
    candidates, not_text = [], False
    for text in texts:
        if text.is_protected:
            continue
        if is_binary(text.text):
            not_text = True
            continue
        words = split_words(text.text, text.protected)
        if is_compressible(words):
            candidates.append(_Candidate(text, words, split_blocks(text.text, words)))
    return candidates, not_text


def is_binary(text: str) -> bool:
    """Whether a text is binary data that was decoded as text."""
    if text.isprintable() or not text:
        return False
    junk = sum([letter == "\ufffd" or _is_control(letter) for letter in text])
    return "\0" in text or junk > MAX_JUNK_SHARE * len(text)


def _is_control(letter: str) -> bool:
    return letter not in "\t\n\r\f\v" and unicodedata.category(letter) in ("Cc", "Co", "Cn", "Cs")


async def _measure_blocks(candidate: _Candidate, scorer: SurprisalScorer, question: str) -> list[Block]:
    """Score the blocks of one text with the small model."""
    text = candidate.segment.text
    if question:
        slots = asyncio.Semaphore(MAX_CONCURRENT_BLOCKS)
        parts = [candidate.words[a:b] for a, b in candidate.blocks]
        return await _gather_or_cancel(
            [_measure_after_question(question, text, part, scorer, slots) for part in parts]
        )
    surprisals = await scorer.read_surprisals(text)
    cost, value = await run_in_thread_if_large(
        measure_words, text, candidate.words, surprisals, size=len(text)
    )
    return [
        Block(candidate.words[a:b], cost[a:b], value[a:b], _weighted_mean(cost[a:b], value[a:b]))
        for a, b in candidate.blocks
    ]


async def _measure_after_question(
    question: str, text: str, words: Sequence[Word], scorer: SurprisalScorer, slots: asyncio.Semaphore
) -> Block:
    """Score a block alone and after the question. The block is relevant as far as the question makes it
    easier to guess."""
    start, end = words[0].start, words[-1].end
    part = text[start:end]
    shifted = [unit._replace(start=unit.start - start, end=unit.end - start) for unit in words]
    async with slots:
        cost, value = measure_words(part, shifted, await scorer.read_surprisals(part))
        if not is_compressible(words):
            return Block(words, cost, value)
        _, value_after = measure_words(part, shifted, await scorer.read_surprisals(part, f"{question}\n\n"))
    gain = [alone - given for alone, given in zip(value, value_after, strict=True)]
    value = [alone + max(0.0, more) for alone, more in zip(value, gain, strict=True)]
    return Block(words, cost, value, _weighted_mean(cost, gain))


async def _gather_or_cancel(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines concurrently and return their results. The first failure cancels the others."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise


def measure_words(
    text: str, words: Sequence[Word], surprisals: Sequence[TokenSurprisal]
) -> tuple[list[int], list[float]]:
    """Return the token count of each word, and its mean surprisal in nats per token.

    A token that separates words belongs to the word after it. A word without known surprisal, such as a
    text's first, gets the mean of all others.
    """
    cost = [0] * len(words)
    total, known = [0.0] * len(words), [0] * len(words)
    at = 0
    for start, end, logprob in surprisals:
        piece = text[start:end]
        place = start + len(piece) - len(piece.lstrip()) if piece.strip() else start
        while at + 1 < len(words) and words[at].end <= place:
            at += 1
        cost[at] += 1
        if logprob is not None and piece.strip():
            total[at] -= logprob
            known[at] += 1
    mean = sum(total) / max(1, sum(known))
    return cost, [tells / count if count else mean for tells, count in zip(total, known, strict=True)]


def _weighted_mean(cost: Sequence[int], value: Sequence[float]) -> float:
    return sum(count * tells for count, tells in zip(cost, value, strict=True)) / max(1, sum(cost))


async def _compress_to_target(
    candidates: Sequence[_Candidate],
    blocks_by_text: Sequence[Sequence[Block]],
    protected_tokens: int,
    before: int,
    target: int,
    goal: Goal,
    scorer: SurprisalScorer,
    question_aware: bool,
) -> Compressed:
    """Choose words, count the tokens of the result, and choose again while it is too far from the target."""
    flat = [block for found in blocks_by_text for block in found]
    size = sum(len(one.segment.text) for one in candidates)
    budget = target - protected_tokens
    best: tuple[int, dict[BodyPath, str], Selection] | None = None
    for _ in range(MAX_ROUNDS):
        selection = await run_in_thread_if_large(
            choose_words, flat, budget, ranked=question_aware, drop=goal.drop, size=size
        )
        texts = _build_texts(candidates, blocks_by_text, selection)
        after = protected_tokens + sum([await scorer.count_tokens(text) for text in texts.values() if text])
        if best is None or abs(after - target) < abs(best[0] - target):
            best = after, texts, selection
        if abs(after - target) <= RETRY_TOLERANCE * target or selection.tokens > budget:
            break
        budget += target - after
    assert best is not None  # noqa: S101  there is a first round
    after, texts, selection = best
    method = "perplexity+question" if question_aware else "perplexity"
    why = "protected" if after > target * (1 + TOLERANCE) else ""
    if after < target * (1 - TOLERANCE):
        why = "indivisible"
    dropped = [
        _find_dropped(candidate, flags)
        for candidate, flags in _pair_flags(candidates, blocks_by_text, selection)
    ]
    return Compressed(texts, before, after, target, why, method, len(flat), selection.left_out, dropped)


def _build_texts(
    candidates: Sequence[_Candidate], blocks_by_text: Sequence[Sequence[Block]], selection: Selection
) -> dict[BodyPath, str]:
    return {
        candidate.segment.path: join_words(candidate.segment.text, candidate.words, flags)
        for candidate, flags in _pair_flags(candidates, blocks_by_text, selection)
    }


def _pair_flags(
    candidates: Sequence[_Candidate], blocks_by_text: Sequence[Sequence[Block]], selection: Selection
) -> Iterator[tuple[_Candidate, list[bool]]]:
    """Yield each text with which of its words stay."""
    keep_flags = iter(selection.keep_flags)
    for candidate, found in zip(candidates, blocks_by_text, strict=True):
        yield candidate, [flag for _ in found for flag in next(keep_flags)]


def _find_dropped(candidate: _Candidate, flags: Sequence[bool]) -> Dropped:
    """Return what a text has lost."""
    spans: list[Span] = []
    follows = False
    staying = {word.sentence for word, stays in zip(candidate.words, flags, strict=True) if stays}
    for word, stays in zip(candidate.words, flags, strict=True):
        if not stays:
            spans[-1:] = [(spans[-1][0], word.end)] if follows else [*spans[-1:], (word.start, word.end)]
        follows = not stays
    sentences = {word.sentence for word in candidate.words} - staying
    return Dropped(candidate.segment.path, flags.count(False), len(flags), len(sentences), spans)


async def run_in_thread_if_large(work: Callable[..., T], *args: Any, size: int, **more: Any) -> T:
    """Run `work` in a thread if `size` characters would block the event loop for long, else directly."""
    if size < THREAD_CHARS:
        return work(*args, **more)
    return await asyncio.to_thread(work, *args, **more)
