"""Two legs of one exchange, run together: the first to commit has the floor, and the other is cancelled."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from gateway.api.writers import Reply
from gateway.wire.body_types import Event
from routers.plan import Draft, Raced, Unavailable

from .admission import PlanClosed


class LostRace(Exception):
    """The other leg has the floor."""


class RaceLeg:
    """The reply, as one leg of a race sees it."""

    def __init__(self, floor: "CommitLock") -> None:
        self._lock = floor
        self.lost = False
        self.cancel: Callable[[], object] = lambda: None

    @property
    def begun(self) -> bool:
        return self._lock.reply.begun

    async def events(self, events: Sequence[Event]) -> None:
        self._lock.acquire(self)
        await self._lock.reply.events(events)

    async def raw(self, data: bytes) -> None:
        self._lock.acquire(self)
        await self._lock.reply.raw(data)

    async def response(self, body: bytes) -> None:
        self._lock.acquire(self)
        await self._lock.reply.response(body)


class CommitLock:
    """Whoever takes it first keeps it."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.legs = (RaceLeg(self), RaceLeg(self))
        self._winner: RaceLeg | None = None

    def acquire(self, lane: RaceLeg) -> None:
        """Raises Outrun for the lane that comes second."""
        if self._winner is None:
            self._winner = lane
            for other in self.legs:
                if other is not lane:
                    other.lost = True
                    other.cancel()
        elif self._winner is not lane:
            raise LostRace


async def race(
    reply: Reply,
    a: Callable[[RaceLeg], Coroutine[Any, Any, Draft]],
    b: Callable[[RaceLeg], Coroutine[Any, Any, Draft]],
    out_of_time: Callable[[], bool],
) -> Raced:
    """Runs both legs to their ends. Cancelling it cancels both, as does a leg that fails unforeseen, and waits until
    their calls are closed; legs that only ran out of time have outcomes all the same."""
    floor = CommitLock(reply)
    tasks = []
    for leg, lane in zip((a, b), floor.legs, strict=True):
        task = asyncio.ensure_future(_run_leg(leg, lane))
        lane.cancel = task.cancel
        tasks.append(task)
    try:
        return Raced(*await asyncio.gather(*tasks))
    except BaseException as over:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        if isinstance(over, asyncio.CancelledError) and out_of_time():
            return Raced(*[task.result() for task in tasks])
        raise


async def _run_leg(
    leg: Callable[[RaceLeg], Coroutine[Any, Any, Draft]], lane: RaceLeg
) -> Draft | Unavailable:
    try:
        return await leg(lane)
    except PlanClosed:
        raise
    except Unavailable as lost:
        return lost
