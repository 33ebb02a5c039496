"""Runs background work one piece at a time, beside requests or only in the share of time that they leave it."""

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_WAITING = 64
"""Maximum number of pieces of work that wait in one lane."""


class Lane(Generic[T]):
    """Runs work one piece at a time, in order. Work must end normally, or be cancelled and started anew."""

    def __init__(self, work: Callable[[T], Awaitable[None]]) -> None:
        self._work = work
        self._waiting: deque[T] = deque()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    def add(self, item: T) -> bool:
        """Queue an item. Return False if the queue is full."""
        if len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting.append(item)
        self.resume()
        return True

    def resume(self) -> None:
        """Start the next piece of work if it may start now."""
        if self._task is None and self._waiting and not self._is_closed and self._may_start():
            # The request at whose end this happens is not the one whose answer is judged: no context of its own.
            work = self._run(self._waiting.popleft())
            self._task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
            self._task.add_done_callback(self._on_done)

    async def close(self) -> None:
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _may_start(self) -> bool:
        return True

    async def _run(self, item: T) -> None:
        try:
            await self._work(item)
        except asyncio.CancelledError:
            self._waiting.appendleft(item)
            raise

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        self.resume()


class YieldingLane(Lane[T]):
    """A lane whose work shares an engine with requests, and yields to them.

    While no request is in flight, work runs. A request that arrives interrupts it, unless the work's share of the time
    is not used up: then the work goes on to its end. Work that was interrupted starts anew once it may go on to its
    end. So steady traffic delays work, and never stops it for good."""

    def __init__(
        self,
        work: Callable[[T], Awaitable[None]],
        share: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(work)
        self._share = share
        self._clock = clock
        self._requests = 0
        self._shares_from = 0.0
        """When work may run beside requests again."""
        self._shared_since: float | None = None
        """When the running work began to run beside requests; None while there are none."""
        self._was_interrupted = False
        self._timer: asyncio.TimerHandle | None = None

    def begin_request(self) -> None:
        self._requests += 1
        if self._task is None or self._shared_since is not None:
            return
        if self._has_share():
            self._shared_since = self._clock()
        else:
            self._was_interrupted = True
            self._task.cancel()

    def end_request(self) -> None:
        self._requests -= 1
        self.resume()

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await super().close()

    def _has_share(self) -> bool:
        return self._clock() >= self._shares_from

    def _may_start(self) -> bool:
        if self._has_share():
            self._shared_since = self._clock() if self._requests else None
            return True
        if not (self._requests or self._was_interrupted):
            return True
        if self._timer is None:
            delay = self._shares_from - self._clock()
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_share)
        return False

    def _on_share(self) -> None:
        self._timer = None
        self.resume()

    def _on_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._was_interrupted = False
        if self._shared_since is not None:
            now = self._clock()
            self._shares_from = now + (now - self._shared_since) * (1.0 / self._share - 1.0)
            self._shared_since = None
        super()._on_done(task)
