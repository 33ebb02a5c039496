"""Expected tokens, seconds and dollars of speculative decoding, from an acceptance rate and measured costs.

Inside one engine: Leviathan et al., "Fast Inference from Transformers via Speculative Decoding" (arXiv
2211.17192). Their model is used across HTTP too: each drafted token is accepted with the same probability,
independently of the others, up to the first rejection.

Across HTTP: the small model's server writes a block of tokens. The large model's server verifies it in one
prefill of the prompt, the text so far and the block, and adds one token of its own: its replacement for the
first rejected token, or the token after a fully accepted block. This prefill reads no prefix cache (vLLM's
`prompt_logprobs`).
"""

from collections.abc import Callable
from typing import NamedTuple

from routers.cost import FREE, Price, compute_cost
from routers.plan import NO_USAGE, Usage

MAX_BLOCK = 64
"""Default maximum block length, in tokens."""
BISECTIONS = 30
"""Bisections of [0, 1] in the search for the break-even acceptance: precise to 1e-9."""


class Costs(NamedTuple):
    """Times in seconds, and prices, of both models' servers."""

    decode_token: float
    """LLM: seconds to decode one token."""
    verify_call: float
    """LLM: fixed seconds of a call that writes one token: network, queue, overhead."""
    verify_token: float
    """LLM: further seconds of a verification per token of the prompt, the text so far and the block."""
    draft_call: float
    """SLM: fixed seconds of a call. All text before the block is in its prefix cache."""
    draft_token: float
    """SLM: seconds per token of the block."""
    draft_prefill: float = 0.0
    """SLM: seconds per token of the prompt, which is read once."""
    llm: Price = FREE
    """The LLM's price. Its rate for cached input does not apply to verifications."""
    slm: Price = FREE
    """The SLM's price."""

    def draft_seconds(self, block: int) -> float:
        return self.draft_call + block * self.draft_token

    def verify_seconds(self, length: int, block: int) -> float:
        """Return the seconds to verify `block` tokens after `length` tokens."""
        return self.verify_call + (length + block) * self.verify_token


class Forecast(NamedTuple):
    """Expected values for one answer."""

    calls: float
    """Number of verifications."""
    drafted: float
    """Tokens that the SLM writes."""
    verified: float
    """Input tokens that the LLM reads in all calls together."""
    seconds: float
    dollars: float
    alone_seconds: float
    """Seconds of the LLM alone: one prefill for the first token, as fast as a verification, and one decode
    step for each other token."""
    alone_dollars: float
    steps_saved: float
    """Share of the LLM's forward passes that speculation saves, in [0, 1): 1 - calls / answer."""
    inside: float
    """Speed-up of the same pair inside one engine, with the same block or the best: see
    `in_engine_speedup`."""

    @property
    def speedup(self) -> float:
        """The LLM's time alone divided by the time with speculation; below 1, speculation is slower."""
        return self.alone_seconds / self.seconds


def estimate_acceptance(accepted: int, rejected: int) -> float | None:
    """Return the maximum-likelihood acceptance rate per token, in [0, 1], or None without data.

    Each block ended at its first rejection. `accepted` counts the tokens before rejections in all blocks, and
    `rejected` the blocks with a rejection. Tokens after a rejection were never tried, so accepted / drafted
    would be too low.
    """
    tries = accepted + rejected
    return accepted / tries if tries else None


def expected_tokens(accept: float, block: int) -> float:
    """Return the expected tokens per verification of `block` drafted tokens, in [1, block + 1].

    It is (1 - accept^(block + 1)) / (1 - accept), or block + 1 if `accept` is 1. It includes the LLM's token.
    """
    return sum(accept**accepted for accepted in range(block + 1))


def in_engine_speedup(accept: float, block: int, cost_ratio: float, verify: float = 1.0) -> float:
    """Return the speed-up of decoding inside one engine: expected tokens / (block * cost_ratio + verify).

    This is Theorem 3.8 of arXiv 2211.17192 with `verify` in place of its 1. `cost_ratio` is the time of a
    draft step divided by that of a target step. `verify` is the time of a target step on block + 1 positions
    divided by that on one position: 1 if memory bandwidth bounds it.
    """
    return expected_tokens(accept, block) / (block * cost_ratio + verify)


def best_block(accept: float, costs: Costs, length: int, max_block: int = MAX_BLOCK) -> int:
    """Return the block length in [1, max_block] with the most expected tokens per second.

    `length` is the number of tokens (prompt and text so far) before the block. Takes a few microseconds, so
    it can be called before each block. Expected tokens are concave and seconds linear in the block length, so
    their ratio has one peak, and the search climbs from 1.
    """
    call = costs.draft_call + costs.verify_call + length * costs.verify_token
    token = costs.draft_token + costs.verify_token
    reach, expected, seconds = accept, 1.0 + accept, call + token
    for block in range(1, max_block):
        reach *= accept  # the probability that one more drafted token counts
        if reach * seconds <= expected * token:
            return block
        expected += reach
        seconds += token
    return max(1, max_block)


def is_worthwhile(accept: float, costs: Costs, length: int, max_block: int = MAX_BLOCK) -> bool:
    """True if, after `length` tokens, the best block gives more tokens per second than plain decoding."""
    block = best_block(accept, costs, length, max_block)
    seconds = costs.draft_seconds(block) + costs.verify_seconds(length, block)
    return expected_tokens(accept, block) * costs.decode_token > seconds


def forecast(
    accept: float,
    costs: Costs,
    prompt: int,
    answer: int,
    block: int | None = None,
    max_block: int = MAX_BLOCK,
) -> Forecast:
    """Return exact expectations for an answer of `answer` tokens after `prompt` tokens.

    All positions of rejections are weighed by their probabilities. `answer` is at least 1 and includes the
    end token, which the LLM writes. `block` is the number of tokens drafted at a time; None uses the best
    length each time.
    """

    def block_size(written: int) -> int:
        return min(block or best_block(accept, costs, prompt + written, max_block), answer - written - 1)

    def expectation(of: Callable[[int, int], float]) -> float:
        return sum(
            likely * of(written, block_size(written)) for written, likely in enumerate(start_probabilities)
        )

    start_probabilities = _start_probabilities(accept, answer, block_size)
    prefill_seconds = prompt * costs.draft_prefill
    alone_seconds = costs.verify_call + prompt * costs.verify_token + (answer - 1) * costs.decode_token
    return Forecast(
        calls=sum(start_probabilities),
        drafted=expectation(lambda _, size: size),
        verified=expectation(lambda written, size: prompt + written + size),
        seconds=prefill_seconds
        + expectation(
            lambda written, size: costs.draft_seconds(size) + costs.verify_seconds(prompt + written, size)
        ),
        dollars=compute_cost(NO_USAGE, costs.slm, prefill_seconds)
        + expectation(lambda written, size: _block_cost(costs, prompt, written, size)),
        alone_seconds=alone_seconds,
        alone_dollars=compute_cost(Usage(prompt, answer), costs.llm, alone_seconds),
        steps_saved=1.0 - sum(start_probabilities) / answer,
        inside=max(
            in_engine_speedup_of_pair(accept, costs, size)
            for size in ([block] if block else range(1, max_block + 1))
        ),
    )


def _start_probabilities(accept: float, answer: int, block_size: Callable[[int], int]) -> list[float]:
    """Return, for each position in [0, answer), the probability that a block begins there."""
    probabilities = [1.0] + [0.0] * answer
    for written in range(answer):
        likely = probabilities[written]
        for after in range(written + 1, written + block_size(written) + 1):
            probabilities[after] += likely * (1.0 - accept)
            likely *= accept
        probabilities[written + block_size(written) + 1] += likely
    return probabilities[:answer]


def _block_cost(costs: Costs, prompt: int, written: int, block: int) -> float:
    """Return the cost of one block in USD. The SLM's cache has all earlier tokens but the LLM's last one."""
    length = prompt + written
    draft = Usage(length, block, cached_tokens=length - 1 if written else 0)
    verification = Usage(length + block, 1)
    return compute_cost(draft, costs.slm, costs.draft_seconds(block)) + compute_cost(
        verification, costs.llm, costs.verify_seconds(length, block)
    )


def in_engine_speedup_of_pair(accept: float, costs: Costs, block: int) -> float:
    """Return the `in_engine_speedup` of the two models of `costs`.

    Inside one engine there is no fixed time per call, and each further position of a verification is assumed
    to take as long as one of a prefill.
    """
    further = block * costs.verify_token / costs.decode_token
    return in_engine_speedup(accept, block, costs.draft_token / costs.decode_token, 1.0 + further)


def break_even(speedup: Callable[[float], float]) -> float | None:
    """Return the acceptance rate in [0, 1] above which `speedup` exceeds 1, or None if it never does.

    `speedup` must grow with the acceptance rate.
    """
    low, high = 0.0, 1.0
    if speedup(high) <= 1.0:
        return None
    if speedup(low) > 1.0:
        return low
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if speedup(middle) > 1.0 else (middle, high)
    return high
