"""What is shown while a local engine starts."""

from io import StringIO

from rich.console import Console

from gateway.cli.start_printer import StartPrinter
from gateway.local.supervision.start_progress import READY, Stage, StartClock, StartStep

LOADING = Stage("loading the weights", "seconds per GB")


def print_start(console: Console, *, is_live: bool, seconds: int = 200) -> str:
    """A start that loads for so many seconds, a report a second, and is then ready."""
    now = 0.0
    with StartPrinter(console, is_live=is_live) as printer:
        clock = StartClock("vLLM", Stage("importing vLLM"), printer, lambda: now)
        clock.report_new()
        now = 5.0
        clock.enter(LOADING)
        for second in range(1, seconds + 1):
            now = 5.0 + second
            clock.report_waiting()
        clock.enter(Stage(READY))
        clock.enter(LOADING)  # a line of its log that tells of no start
    file = console.file
    assert isinstance(file, StringIO)
    return file.getvalue()


def test_a_log_gets_a_line_at_growing_intervals():
    lines = print_start(Console(file=StringIO(), width=200), is_live=False).splitlines()
    still = "  vLLM: still loading the weights, {} s ({} s in all; usually seconds per GB)"
    assert lines == [
        "  vLLM: importing vLLM (0 s)",
        "  vLLM: loading the weights (5 s)",
        *(still.format(seconds, seconds + 5) for seconds in (10, 30, 70, 130, 190)),
        "  vLLM: ready (205 s)",
    ]


def test_a_terminal_gets_one_line_that_lives():
    console = Console(file=StringIO(), width=60, force_terminal=True, color_system=None)
    text = print_start(console, is_live=True, seconds=3)
    assert [f"loading the weights, {second} s" in text for second in (1, 2, 3)] == [True] * 3
    assert text.count("vLLM: loading the weights (5 s)\n") == 1
    assert text.rstrip("\n").endswith("vLLM: ready (8 s)")
    assert "\x1b[?25h" in text  # the cursor is shown again


def test_a_stage_that_goes_on_says_what_it_does_and_how_long_it_usually_takes():
    step = StartStep("vLLM", LOADING, 65.4, 12.2, is_new=False)
    assert str(step) == "vLLM: still loading the weights, 12 s (65 s in all; usually seconds per GB)"
