"""`smallfirst serve` as a process of its own."""

import asyncio
import json
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from support.waiting import soon, until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def serve(
    folder: Path, stdin: int = DEVNULL, *, listen: dict[str, Any] | None = None, **config: Any
) -> AsyncIterator[tuple[Process, str]]:
    """The process and its base URL, once it listens; it is ended where a test has not ended it."""
    port = free_port()
    path = folder / "smallfirst.yaml"
    path.write_text(json.dumps({"listen": {"port": port} | (listen or {}), "local": None} | config))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "serve", "--config", str(path)),
        stdin=stdin,
        stderr=PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stderr is not None
    try:
        while b"Try:" not in (line := await soon(process.stderr.readline())):
            assert line, "it has ended instead of listening"
        await until_listening(port)
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
            await soon(process.communicate())


async def until_listening(port: int) -> None:
    async def connected() -> asyncio.StreamWriter | None:
        try:
            return (await asyncio.open_connection("127.0.0.1", port))[1]
        except ConnectionRefusedError:
            return None

    writer = await until(connected)
    writer.close()
    await writer.wait_closed()
