"""Cheap coarse time limits: one event-loop timer checks all deadlines every 20 ms.

A timer of its own for each request and each read would cost microseconds to set and to cancel.
"""

import asyncio
from collections.abc import Callable

CHECK_PERIOD_S = 0.02
"""Seconds between two checks, and so how late a deadline may be."""


class Deadline:
    """Acts once its time has come, unless cancelled; one that is `repeated` is postponed by its act."""

    __slots__ = ("_act", "_deadlines", "due", "repeated")

    def __init__(
        self, deadlines: "Deadlines", due: float, act: Callable[[], None], *, repeated: bool = False
    ) -> None:
        self._deadlines = deadlines
        self._act: Callable[[], None] | None = act
        self.due = due
        self.repeated = repeated

    def postpone(self, seconds: float) -> None:
        self.due = self._deadlines.time() + seconds

    def cancel(self) -> None:
        self._deadlines.pending.discard(self)
        self._act = None  # its owner holds it in turn: a cycle that only a collection would free

    def fire(self) -> None:
        act = self._act
        if not self.repeated:
            self.cancel()
        if act is not None:
            act()


class Deadlines:
    """Those of one event loop."""

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
        loop.call_later(
            CHECK_PERIOD_S, self._check, loop
        )  # first: an act that fails takes no other deadline with it
        now = loop.time()
        for deadline in [deadline for deadline in self.pending if deadline.due <= now]:
            deadline.fire()


class TaskTimeout:
    """asyncio.timeout at a fraction of its cost: cancels the task it is made in after `seconds`."""

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
        """Return whether this limit, and nobody else, cancelled the task. Clears the cancellation.

        To be called in the task, on a CancelledError."""
        fired, self.fired = self.fired, False
        return fired and self._task is not None and self._task.uncancel() <= self._requests

    @property
    def overruled(self) -> bool:
        """Whether somebody else has cancelled the task too. To be read after `consume`."""
        return self._task is not None and self._task.cancelling() > self._requests

    def cancel(self) -> None:
        self._deadline.cancel()


def _raise_no_loop() -> float:
    raise RuntimeError("a deadline is set within a running event loop")
