"""Bounds the number of calls in flight and the queue of calls that wait."""

import asyncio
from collections import deque
from contextlib import suppress


class QueueFull(Exception):
    """Every slot is taken and the queue has no place left."""


class Slots:
    """A semaphore with a bounded queue. Taking a free slot does not yield to the event loop."""

    def __init__(self, max_in_flight: int, max_waiting: int) -> None:
        self._max_in_flight = max_in_flight
        self._free = max_in_flight
        self._max_waiting = max_waiting
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def load(self) -> int:
        """Number of calls in flight and waiting."""
        return self._max_in_flight - self._free + len(self._queue)

    def try_acquire(self) -> bool:
        """Take a slot if one is free and nobody waits. Return whether it was taken; if not, await `wait`."""
        if self._free == 0 or self._queue:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Queue for a slot and take it. Raises QueueFull if the queue has no place left."""
        if len(self._queue) >= self._max_waiting:
            raise QueueFull
        waiter = asyncio.get_running_loop().create_future()
        self._queue.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release()  # the slot was handed over as the waiter was cancelled
            else:
                with suppress(ValueError):  # `release` may already have removed this waiter
                    self._queue.remove(waiter)
            raise

    def release(self) -> None:
        """Hand the slot to the call that has waited longest, or free it."""
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1
