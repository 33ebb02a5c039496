"""When speculation pays: expected tokens, seconds and dollars, from acceptance and measured costs.

Inside an engine: Leviathan et al., "Fast Inference from Transformers via Speculative Decoding" (arXiv
2211.17192). Its expected tokens of a step hold for both kinds: each drafted token is taken to be accepted with the
same probability, independently of the others, up to the first rejection.

Across HTTP: the small model's server writes a block of tokens, the large model's server verifies it in one
prefill of the prompt, the text so far and the block, and adds one token of its own: the one it would have
written where it first disagrees, or the one after a block wholly accepted. It reads no prefix cache while it does
(vLLM's `prompt_logprobs`).
"""

from collections.abc import Callable
from typing import NamedTuple

from routers.cost import FREE, Price, cost
from routers.plan import NO_USAGE, Usage

MOST = 64
"""The longest block that is considered where nothing else is said."""
NEARNESS = 30
"""Halvings of [0, 1] in the search of a break-even: within 1e-9."""


class Costs(NamedTuple):
    """What both models' servers take, in seconds, and charge."""

    decode_token: float
    """LLM: a token of its own writing."""
    verify_call: float
    """LLM: a call with one token to write, whatever its length: network, queue, overhead."""
    verify_token: float
    """LLM: each token of the prompt, the text so far and the block, beside `verify_call`."""
    draft_call: float
    """SLM: a call, whatever its length; what stands before the block is in its cache."""
    draft_token: float
    """SLM: a token of the block."""
    draft_prefill: float = 0.0
    """SLM: a token of the prompt, read once."""
    llm: Price = FREE
    """What the LLM charges. No rate for cached input applies to a verification."""
    slm: Price = FREE
    """What the SLM charges."""

    def drafting(self, block: int) -> float:
        return self.draft_call + block * self.draft_token

    def verifying(self, length: int, block: int) -> float:
        """`length`: tokens before the block."""
        return self.verify_call + (length + block) * self.verify_token


class Forecast(NamedTuple):
    """Expectations for one answer."""

    calls: float
    """Verifications."""
    drafted: float
    """Tokens the SLM writes."""
    verified: float
    """Input tokens the LLM reads, all calls together."""
    seconds: float
    dollars: float
    alone_seconds: float
    """The LLM alone: one prefill, at the rate of a verification, which gives the first token, and a decode step for
    each other one."""
    alone_dollars: float
    steps_saved: float
    """Share of the LLM's forward passes that are spared, in [0, 1): 1 - calls / answer."""
    inside: float
    """Speed-up of decoding with the same pair inside one engine, by the same block or the best: see `inside`."""

    @property
    def speedup(self) -> float:
        """How many times sooner the answer is there than from the LLM alone; under 1: later."""
        return self.alone_seconds / self.seconds


def acceptance(accepted: int, rejected: int) -> float | None:
    """The acceptance of a token, in [0, 1], by maximum likelihood from blocks that each ended at their first
    rejection: `accepted` tokens before it in all of them, `rejected` blocks that had one. Tokens after a rejection
    were never tried, so accepted / drafted would be too low. None where nothing was tried."""
    tried = accepted + rejected
    return accepted / tried if tried else None


def expected_tokens(accept: float, block: int) -> float:
    """Tokens that a verification of `block` drafted ones gives, its own one included:
    (1 - accept^(block + 1)) / (1 - accept), and block + 1 where `accept` is 1. In [1, block + 1]."""
    return sum(accept**accepted for accepted in range(block + 1))


def inside(accept: float, block: int, cost_ratio: float, verify: float = 1.0) -> float:
    """Speed-up of decoding inside an engine: expected tokens / (block * cost_ratio + verify), Theorem 3.8 of
    arXiv 2211.17192 with `verify` for its 1. `cost_ratio`: a draft step's time over a target step's; `verify`: the
    time of a target step on block + 1 positions over that on one, 1 where memory bounds it."""
    return expected_tokens(accept, block) / (block * cost_ratio + verify)


def best_block(accept: float, costs: Costs, length: int, most: int = MOST) -> int:
    """The block in 1..most with the most expected tokens per second, where `length` tokens (prompt and text so
    far) stand before it. Cheap enough to be asked before each block: some microseconds.

    Tokens are concave and seconds linear in the block, so their ratio has one peak: it is climbed from 1.
    """
    call = costs.draft_call + costs.verify_call + length * costs.verify_token
    token = costs.draft_token + costs.verify_token
    reach, expected, seconds = accept, 1.0 + accept, call + token
    for block in range(1, most):
        reach *= accept  # the probability that one more drafted token counts
        if reach * seconds <= expected * token:
            return block
        expected += reach
        seconds += token
    return max(1, most)


def pays(accept: float, costs: Costs, length: int, most: int = MOST) -> bool:
    """Whether after `length` tokens the best block gives more tokens per second than the LLM's own decoding."""
    block = best_block(accept, costs, length, most)
    seconds = costs.drafting(block) + costs.verifying(length, block)
    return expected_tokens(accept, block) * costs.decode_token > seconds


def forecast(
    accept: float, costs: Costs, prompt: int, answer: int, block: int | None = None, most: int = MOST
) -> Forecast:
    """One answer of `answer` tokens (1 or more, the end token included) after `prompt` tokens: every way the
    rejections may fall, weighed by its probability. `block`: tokens drafted at a time; None: each time the best.
    A draft ends where the answer does: the end token is left to the LLM.
    """

    def size(written: int) -> int:
        return min(block or best_block(accept, costs, prompt + written, most), answer - written - 1)

    def expected(of: Callable[[int, int], float]) -> float:
        return sum(likely * of(written, size(written)) for written, likely in enumerate(reached))

    reached = _reached(accept, answer, size)
    reading = prompt * costs.draft_prefill
    alone = costs.verify_call + prompt * costs.verify_token + (answer - 1) * costs.decode_token
    return Forecast(
        calls=sum(reached),
        drafted=expected(lambda _, size: size),
        verified=expected(lambda written, size: prompt + written + size),
        seconds=reading
        + expected(lambda written, size: costs.drafting(size) + costs.verifying(prompt + written, size)),
        dollars=cost(NO_USAGE, costs.slm, reading)
        + expected(lambda written, size: _dollars(costs, prompt, written, size)),
        alone_seconds=alone,
        alone_dollars=cost(Usage(prompt, answer), costs.llm, alone),
        steps_saved=1.0 - sum(reached) / answer,
        inside=max(
            inside_same_pair(accept, costs, size) for size in ([block] if block else range(1, most + 1))
        ),
    )


def _reached(accept: float, answer: int, size: Callable[[int], int]) -> list[float]:
    """The probability, for each number of tokens under `answer`, that a block begins after so many."""
    reached = [1.0] + [0.0] * answer
    for written in range(answer):
        likely = reached[written]
        for after in range(written + 1, written + size(written) + 1):
            reached[after] += likely * (1.0 - accept)
            likely *= accept
        reached[written + size(written) + 1] += likely
    return reached[:answer]


def _dollars(costs: Costs, prompt: int, written: int, block: int) -> float:
    """One block. The SLM finds in its cache what it read and wrote before, but not the LLM's last token."""
    length = prompt + written
    draft = Usage(length, block, cached_tokens=length - 1 if written else 0)
    verification = Usage(length + block, 1)
    return cost(draft, costs.slm, costs.drafting(block)) + cost(
        verification, costs.llm, costs.verifying(length, block)
    )


def inside_same_pair(accept: float, costs: Costs, block: int) -> float:
    """Speed-up of decoding if the pair of `costs` ran inside one engine: the calls fall away, and each further
    position of a verification is taken to cost what one of a prefill does. See `inside`."""
    further = block * costs.verify_token / costs.decode_token
    return inside(accept, block, costs.draft_token / costs.decode_token, 1.0 + further)


def break_even(speedup: Callable[[float], float]) -> float | None:
    """The acceptance in [0, 1] from which a speed-up that grows with it exceeds 1; None where not even 1 does."""
    low, high = 0.0, 1.0
    if speedup(high) <= 1.0:
        return None
    if speedup(low) > 1.0:
        return low
    for _ in range(NEARNESS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if speedup(middle) > 1.0 else (middle, high)
    return high
