"""A bounded number of calls in flight, and a bounded queue for more."""

import asyncio
from collections import deque
from contextlib import suppress


class Full(Exception):
    """All slots are taken, and all places in the queue."""


class Slots:
    """A semaphore with a bound on who waits. A free slot is taken without a turn of the event loop."""

    def __init__(self, most: int, most_waiting: int) -> None:
        self._most = most
        self._free = most
        self._most_waiting = most_waiting
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def load(self) -> int:
        """Slots taken, and who waits for one."""
        return self._most - self._free + len(self._queue)

    def take(self) -> bool:
        """Whether a slot was free and is now taken; else `wait` for one."""
        if self._free == 0 or self._queue:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Raises Full."""
        if len(self._queue) >= self._most_waiting:
            raise Full
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()  # it was handed over as the waiter was cancelled
            else:
                with suppress(ValueError):  # `release` may have passed it over already
                    self._queue.remove(turn)
            raise

    def release(self) -> None:
        """Hands the slot to who has waited longest, or frees it."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
