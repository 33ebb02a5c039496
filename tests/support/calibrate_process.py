"""`smallfirst calibrate` as a process of its own."""

import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from policies.tuning.starter_set import Item


def write_items(config: Path, items: Sequence[Item]) -> None:
    """Write the graded items beside the configuration."""
    config.with_name("items.jsonl").write_text("".join(f"{item.model_dump_json()}\n" for item in items))


@asynccontextmanager
async def calibrating(config: Path, *options: str) -> AsyncIterator[Process]:
    """The command as a process, with the items beside its configuration. It is killed if a test has not ended it."""
    process = await create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "calibrate", "--config", str(config), *options),
        *("--items", str(config.with_name("items.jsonl"))),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
