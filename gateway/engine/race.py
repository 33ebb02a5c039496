"""Two legs of one exchange, run together: the first to commit has the floor, and the other is cancelled."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from gateway.api.writers import Reply
from gateway.wire.shapes import Event
from routers.plan import Draft, Raced, Unavailable

from .admission import Closed


class Outrun(Exception):
    """The other leg has the floor."""


class Lane:
    """The reply, as one leg of a race sees it."""

    def __init__(self, floor: "Floor") -> None:
        self._floor = floor
        self.outrun = False
        self.cancel: Callable[[], object] = lambda: None

    @property
    def begun(self) -> bool:
        return self._floor.reply.begun

    async def events(self, events: Sequence[Event]) -> None:
        self._floor.take(self)
        await self._floor.reply.events(events)

    async def raw(self, data: bytes) -> None:
        self._floor.take(self)
        await self._floor.reply.raw(data)

    async def whole(self, body: bytes) -> None:
        self._floor.take(self)
        await self._floor.reply.whole(body)


class Floor:
    """Whoever takes it first keeps it."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.lanes = (Lane(self), Lane(self))
        self._holder: Lane | None = None

    def take(self, lane: Lane) -> None:
        """Raises Outrun for the lane that comes second."""
        if self._holder is None:
            self._holder = lane
            for other in self.lanes:
                if other is not lane:
                    other.outrun = True
                    other.cancel()
        elif self._holder is not lane:
            raise Outrun


async def race(
    reply: Reply,
    a: Callable[[Lane], Coroutine[Any, Any, Draft]],
    b: Callable[[Lane], Coroutine[Any, Any, Draft]],
    out_of_time: Callable[[], bool],
) -> Raced:
    """Runs both legs to their ends. Cancelling it cancels both, as does a leg that fails unforeseen, and waits until
    their calls are closed; legs that only ran out of time have outcomes all the same."""
    floor = Floor(reply)
    tasks = []
    for leg, lane in zip((a, b), floor.lanes, strict=True):
        task = asyncio.ensure_future(_ended(leg, lane))
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


async def _ended(leg: Callable[[Lane], Coroutine[Any, Any, Draft]], lane: Lane) -> Draft | Unavailable:
    try:
        return await leg(lane)
    except Closed:
        raise
    except Unavailable as lost:
        return lost
