"""What a local engine's start has come to: its stage, and for how long."""

from collections.abc import Callable
from typing import NamedTuple

READY = "ready"


class Stage(NamedTuple):
    """A part of an engine's start. `usual` says how long it usually takes; empty if that is seconds."""

    name: str
    usual: str = ""


class StartStep(NamedTuple):
    """A report on a start: a new stage, or that a stage goes on.

    `elapsed_s` counts from the start of the engine, `stage_s` from the start of the stage.
    """

    engine: str
    stage: Stage
    elapsed_s: float
    stage_s: float
    is_new: bool

    def __str__(self) -> str:
        if self.is_new:
            return f"{self.engine}: {self.stage.name} ({self.elapsed_s:.0f} s)"
        return f"{self.engine}: still {self.describe()}"

    def describe(self) -> str:
        """Return the stage, its seconds, all seconds, and how long the stage usually takes."""
        usual = f"; usually {self.stage.usual}" if self.stage.usual else ""
        return f"{self.stage.name}, {self.stage_s:.0f} s ({self.elapsed_s:.0f} s in all{usual})"


StartReport = StartStep | str
"""What is said of a start: a step of it, or a line of text before it begins."""


class StartClock:
    """Tracks the stage of one start, and reports it. `now` returns seconds."""

    def __init__(
        self, engine: str, first: Stage, report: Callable[[StartStep], None], now: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._report = report
        self._now = now
        self._began_at = self._stage_at = now()
        self._stage = first

    @property
    def elapsed_s(self) -> float:
        """Seconds since the engine was started."""
        return self._now() - self._began_at

    @property
    def is_ready(self) -> bool:
        return self._stage.name == READY

    def enter(self, stage: Stage) -> None:
        """Report a stage, unless it is the present one, or the engine is ready: then the log tells of no start."""
        if self.is_ready or stage == self._stage:
            return
        self._stage, self._stage_at = stage, self._now()
        self._report_step(is_new=True)

    def report_new(self) -> None:
        """Report the stage as a new one."""
        self._report_step(is_new=True)

    def report_waiting(self) -> None:
        """Report that the stage goes on."""
        self._report_step(is_new=False)

    def _report_step(self, *, is_new: bool) -> None:
        now = self._now()
        step = StartStep(self._engine, self._stage, now - self._began_at, now - self._stage_at, is_new)
        self._report(step)
