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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def serve(folder: Path, stdin: int = DEVNULL, **config: Any) -> AsyncIterator[tuple[Process, str]]:
    """The process and its base URL, once it listens; it is ended where a test has not ended it."""
    port = free_port()
    path = folder / "smallfirst.yaml"
    path.write_text(json.dumps({"listen": {"port": port}, "local": None} | config))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "serve", "--config", str(path)),
        stdin=stdin,
        stderr=PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert process.stderr is not None
    try:
        while b"Try:" not in await asyncio.wait_for(process.stderr.readline(), 30):
            pass
        await _listening(port)
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.communicate(), 20)


async def _listening(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return await writer.wait_closed()
