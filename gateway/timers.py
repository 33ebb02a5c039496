"""Cheap coarse timeouts: one event-loop timer checks all deadlines every 20 ms.

A timer of the event loop costs microseconds to set and to cancel, for each request and each read.
"""

import asyncio
from collections.abc import Callable

CHECK_PERIOD_S = 0.02
"""Seconds between two checks, and so the maximum delay of a deadline."""


class Deadline:
    """Calls `act` once its time is over, unless it is cancelled. The `act` of a `repeated` deadline postpones it."""

    __slots__ = ("_act", "_deadlines", "due", "repeated")

    def __init__(
        self, deadlines: "Deadlines", due: float, act: Callable[[], None], *, repeated: bool = False
    ) -> None:
        self._deadlines = deadlines
        self._act: Callable[[], None] | None = act
        self.due = due
        self.repeated = repeated

    def postpone(self, seconds: float) -> None:
        """Set the deadline to `seconds` from now."""
        self.due = self._deadlines.time() + seconds

    def cancel(self) -> None:
        self._deadlines.pending.discard(self)
        # The owner refers to the deadline, whose `act` refers to the owner: break the cycle, or it takes a collection.
        self._act = None

    def fire(self) -> None:
        act = self._act
        if not self.repeated:
            self.cancel()
        if act is not None:
            act()


class Deadlines:
    """The deadlines of one event loop. `time` is the loop's clock, in seconds."""

    def __init__(self) -> None:
        self.pending: set[Deadline] = set()
        self._is_running = False
        self.time: Callable[[], float] = _raise_no_loop

    def schedule(self, seconds: float, callback: Callable[[], None], *, repeated: bool = False) -> Deadline:
        if not self._is_running:
            self._is_running = True
            loop = asyncio.get_running_loop()
            self.time = loop.time
            loop.call_later(CHECK_PERIOD_S, self._check, loop)
        deadline = Deadline(self, self.time() + seconds, callback, repeated=repeated)
        self.pending.add(deadline)
        return deadline

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self.pending:
            self._is_running = False
            return
        # The next check is scheduled first, so that a deadline whose `act` raises does not stop the checks.
        loop.call_later(CHECK_PERIOD_S, self._check, loop)
        now = loop.time()
        for deadline in [deadline for deadline in self.pending if deadline.due <= now]:
            deadline.fire()


class TaskTimeout:
    """Cancels the task that creates it after `seconds`: asyncio.timeout at a fraction of its cost."""

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self.fired = False
        self._task = asyncio.current_task()
        self._requests = 0 if self._task is None else self._task.cancelling()
        self._deadline = deadlines.schedule(seconds, self._fire)

    def _fire(self) -> None:
        self.fired = True
        if self._task is not None:
            self._task.cancel()

    def consume(self) -> bool:
        """Return whether this timeout, and nobody else, cancelled the task. Clears the cancellation.

        Call it in the task, when it has caught a CancelledError.
        """
        fired, self.fired = self.fired, False
        return fired and self._task is not None and self._task.uncancel() <= self._requests

    @property
    def overruled(self) -> bool:
        """Whether somebody else has cancelled the task, once `consume` has been called."""
        return self._task is not None and self._task.cancelling() > self._requests

    def cancel(self) -> None:
        self._deadline.cancel()


class Shutdown:
    """The end of the time that running requests have when the gateway stops."""

    __slots__ = ("is_due",)

    def __init__(self) -> None:
        self.is_due = False
        """Whether that time is over: whoever is cancelled now has the gateway to thank, not its client."""


def _raise_no_loop() -> float:
    raise RuntimeError("a deadline is set within a running event loop")
