"""Bounds the number of calls in flight and the queue of calls that wait."""

import asyncio
from collections import deque
from contextlib import suppress


class Full(Exception):
    """Every slot is taken and the queue has no place left."""


class Slots:
    """A semaphore with a bounded queue. Taking a free slot does not yield to the event loop."""

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
        """Number of calls in flight and waiting."""
        return self._most - self._free + len(self._queue)

    def take(self) -> bool:
        """Take a slot if one is free and nobody waits. Return whether it was taken; if not, await `wait`."""
        if self._free == 0 or self._queue:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Queue for a slot and take it. Raises QueueFull if the queue has no place left."""
        if len(self._queue) >= self._most_waiting:
            raise Full
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()  # the slot was handed over as the waiter was cancelled
            else:
                with suppress(ValueError):  # `release` may already have removed this waiter
                    self._queue.remove(turn)
            raise

    def release(self) -> None:
        """Hand the slot to the call that has waited longest, or free it."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
