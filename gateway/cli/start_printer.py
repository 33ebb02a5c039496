"""Prints how the start of a local engine goes."""

import logging
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from gateway.local.supervision.start_progress import StartReport, StartStep

from .output import err

FIRST_WAIT_S = 10.0
"""Seconds in a stage after which a log says that it goes on; each further wait is twice as long."""
MAX_WAIT_S = 60.0


class StartPrinter:
    """Prints each stage of a start as a line. That a stage goes on is shown by one live line, if `is_live`, else by
    lines at growing intervals."""

    def __init__(self, console: Console, *, is_live: bool) -> None:
        self._console = console
        self._is_live = is_live
        self._live: Live | None = None
        self._next_line_s = self._wait_s = FIRST_WAIT_S

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._end_live_line()

    def __call__(self, step: StartReport) -> None:
        if isinstance(step, str):
            self._print(step)
        elif step.is_new:
            self._end_live_line()
            self._next_line_s = self._wait_s = FIRST_WAIT_S
            self._print(step)
        elif self._is_live:
            self._show_live_line(step)
        elif step.stage_s >= self._next_line_s:
            self._wait_s = min(2 * self._wait_s, MAX_WAIT_S)
            self._next_line_s += self._wait_s
            self._print(step)

    def _print(self, step: StartReport) -> None:
        self._console.print(f"  {step}", markup=False)

    def _show_live_line(self, step: StartStep) -> None:
        line = Text(f"  {step}", no_wrap=True, overflow="ellipsis")
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(line, refresh=True)

    def _end_live_line(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def build_start_printer() -> StartPrinter:
    """Return a printer to standard error, with a live line on a terminal. A log that is shown whole would write over
    that."""
    return StartPrinter(err, is_live=err.is_terminal and not logging.getLogger().isEnabledFor(logging.INFO))
