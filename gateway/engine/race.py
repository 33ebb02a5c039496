"""Runs two legs of one exchange together: the first to commit wins, and the other is cancelled."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from gateway.wire.body_types import Event
from routers.plan import Both, Draft, Generate, Raced, Unavailable, Verdict

from .admission import PlanClosed
from .reply import Reply


class LostRace(Exception):
    """The other leg has committed first."""


class RaceLeg:
    """The reply as one leg of a race sees it. `lost` once the other leg has committed.

    `draft_so_far` is set by whoever reads the leg's draft.
    """

    def __init__(self, lock: "CommitLock") -> None:
        self._lock = lock
        self.lost = False
        self.cancel: Callable[[], object] = lambda: None
        self.draft_so_far: Callable[[], Draft] | None = None

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
    """Lets one leg commit: the first that acquires it keeps it."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.legs = (RaceLeg(self), RaceLeg(self))
        self._winner: RaceLeg | None = None

    def acquire(self, leg: RaceLeg) -> None:
        """Make the leg the winner and cancel the other. Raises LostRace if the other leg is the winner."""
        if self._winner is None:
            self._winner = leg
            for other in self.legs:
                if other is not leg:
                    other.lost = True
                    other.cancel()
        elif self._winner is not leg:
            raise LostRace


async def race(
    both: Both,
    reply: Reply,
    write: Callable[[Generate, RaceLeg], Awaitable[Draft]],
    is_out_of_time: Callable[[], bool],
) -> Raced:
    """Run both legs to their ends and return what each gave.

    A cancellation, and a leg that fails unforeseen, cancel both legs and wait until their calls are closed. Legs that
    only ran out of time have outcomes all the same.
    """
    lock = CommitLock(reply)
    tasks = []
    for ask, leg in zip((both.a, both.b), lock.legs, strict=True):
        task = asyncio.ensure_future(_run_leg(write, ask, leg))
        leg.cancel = task.cancel
        tasks.append(task)
    try:
        return Raced(*await asyncio.gather(*tasks))
    except BaseException as error:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        if isinstance(error, asyncio.CancelledError) and is_out_of_time():
            return Raced(*[task.result() for task in tasks])
        raise


async def _run_leg(
    write: Callable[[Generate, RaceLeg], Awaitable[Draft]], ask: Generate, leg: RaceLeg
) -> Draft | Unavailable:
    """Return the leg's draft, as far as it was written if the leg has lost (its tokens were paid for)."""
    try:
        return await write(ask, leg)
    except LostRace:
        return Draft(ask.tier, verdict=Verdict.CONTINUE) if leg.draft_so_far is None else leg.draft_so_far()
    except PlanClosed:
        raise
    except Unavailable as failure:
        return failure
