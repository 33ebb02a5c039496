"""Time limits by the thousand that hardly ever pass: one timer looks at all of them.

A timer of the event loop's own costs microseconds to set and to cancel, for each request and each read.
"""

import asyncio
from collections.abc import Callable

PERIOD = 0.02
"""Seconds between two looks, and so how late a deadline may be."""


class Deadline:
    """Acts once its time has come, unless cancelled."""

    __slots__ = ("_act", "_deadlines", "due")

    def __init__(self, deadlines: "Deadlines", due: float, act: Callable[[], None]) -> None:
        self._deadlines = deadlines
        self._act: Callable[[], None] | None = act
        self.due = due

    def postpone(self, seconds: float) -> None:
        self.due = self._deadlines.time() + seconds

    def cancel(self) -> None:
        self._deadlines.pending.discard(self)
        self._act = None  # its owner holds it in turn: a cycle that only a collection would free

    def come(self) -> None:
        act = self._act
        self.cancel()
        if act is not None:
            act()


class Deadlines:
    """Those of one event loop."""

    def __init__(self) -> None:
        self.pending: set[Deadline] = set()
        self._looking = False
        self.time: Callable[[], float] = _no_loop

    def after(self, seconds: float, act: Callable[[], None]) -> Deadline:
        if not self._looking:
            self._looking = True
            loop = asyncio.get_running_loop()
            self.time = loop.time
            loop.call_later(PERIOD, self._look, loop)
        deadline = Deadline(self, self.time() + seconds, act)
        self.pending.add(deadline)
        return deadline

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self.pending:
            self._looking = False
            return
        now = loop.time()
        for deadline in [deadline for deadline in self.pending if deadline.due <= now]:
            deadline.come()
        loop.call_later(PERIOD, self._look, loop)


def _no_loop() -> float:
    raise RuntimeError("a deadline is set within a running event loop")
