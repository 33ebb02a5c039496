"""Repeats calls that failed before the server did any work for them."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception
from tenacity.wait import wait_random_exponential

from gateway.upstreams.failures import Failure

from .retry_budget import RetryBudget

T = TypeVar("T")

SAFE_TO_REPEAT = frozenset({"down", "rate_limited", "overloaded"})
"""Reasons after which the same call may be sent again: the server did no work that a repeat would
duplicate."""

MAX_RETRY_WAIT_S = 4.0
"""Maximum seconds before a retry. If a server asks for more, the call fails and the plan's fallback
applies."""

_back_off = wait_random_exponential(multiplier=0.4, max=MAX_RETRY_WAIT_S)
"""Exponential back-off with full jitter: up to 0.4 s before the first retry, then up to twice as long each time."""


class Retries:
    """The retries that are left to one call, whether its errors come with a status or inside a response.

    The upstream's `budget` may allow fewer.
    """

    __slots__ = ("_left", "budget")

    def __init__(self, left: int, budget: RetryBudget) -> None:
        self._left = left
        self.budget = budget

    def withdraw(self) -> bool:
        """Take one retry. Return whether there was one."""
        if self._left <= 0 or not self.budget.withdraw():
            return False
        self._left -= 1
        return True


async def retry(call: Callable[[], Awaitable[T]], failure: Failure, retries: Retries) -> T:
    """Repeat a call whose first attempt ended in `failure`, as often as `retries` allows, and return its result.

    Raises the last Failure. The first attempt is made without tenacity, which costs tens
    of microseconds a call: its failure is tenacity's attempt number 1, so that one mechanism decides about all that
    follows.
    """
    first = [failure]

    async def attempt() -> T:
        if first:
            raise first.pop()
        return await call()

    retrying = AsyncRetrying(
        stop=lambda _: not retries.withdraw(),
        wait=_compute_wait,
        retry=retry_if_exception(_is_repeatable),
        reraise=True,
    )
    try:
        return await retrying(attempt)
    except Failure as last:
        if last.why in SAFE_TO_REPEAT and retrying.statistics["attempt_number"] > 1:
            retries.budget.record_failed_retries()
        raise


def _is_repeatable(error: BaseException) -> bool:
    if not isinstance(error, Failure) or error.why not in SAFE_TO_REPEAT or not error.should_retry:
        return False
    return (error.retry_after or 0.0) <= MAX_RETRY_WAIT_S


def _compute_wait(state: RetryCallState) -> float:
    """Return the seconds before the next attempt: the server's `Retry-After`, else the back-off."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, Failure) and error.retry_after is not None:
        return error.retry_after
    return _back_off(state)
