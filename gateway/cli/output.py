"""The commands' consoles: `out` is standard output, for results; `err` is standard error, for all else."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

out = Console(highlight=False, soft_wrap=True, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended, as shells have it."""

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="Configuration file. Default: $SMALLFIRST_CONFIG, else ./smallfirst.yaml."
    ),
]


def warn(message: object) -> None:
    err.print(f"smallfirst: {message}", markup=False, style="yellow")


def fail(message: object, code: int = 2) -> NoReturn:
    """Print an error message and end the command with exit code `code`."""
    err.print(f"smallfirst: {message}", markup=False, style="red")
    raise typer.Exit(code)
