"""A child process whose output is read line by line, and which is terminated with its process group."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import cast

log = logging.getLogger(__name__)

LONGEST_LINE = 65_536
LAST_WORDS = 1.0
"""Seconds to read the remaining output of a process that has exited."""


class Child(asyncio.SubprocessProtocol):
    """A process started by `start_child`.

    `exited` is set as soon as the process exits. asyncio's own `Process.wait` also waits until its children
    have closed the pipes that they inherited.
    """

    transport: asyncio.SubprocessTransport

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self.ended = asyncio.Event()
        self._on_line = on_line
        self._silent = asyncio.Event()
        self._rest = b""

    @property
    def pid(self) -> int:
        return self.transport.get_pid()

    @property
    def code(self) -> int:
        return self.transport.get_returncode() or 0

    def tell(self, line: bytes) -> None:
        """Write a line to its standard input, which stays open."""
        cast(asyncio.WriteTransport, self.transport.get_pipe_transport(0)).write(line + b"\n")

    async def end(self, patience: float) -> None:
        """Terminate the process, or kill it after `timeout_s`, then kill what is left of its process
        group."""
        for end in (self.transport.terminate, self.transport.kill):
            if self.ended.is_set():
                break
            with suppress(ProcessLookupError):
                end()
            await self._ended_within(patience)
        with suppress(ProcessLookupError, PermissionError):  # macOS raises the latter for a dead group
            os.killpg(self.pid, signal.SIGKILL)  # the process leads its group
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await self._silent.wait()
        self.transport.close()

    async def _ended_within(self, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                await self.ended.wait()
        except TimeoutError:
            log.warning("process %d has not ended within %.0f s", self.pid, patience)

    # Called by asyncio:

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            # Drop what a progress bar has overwritten.
            self._on_line(line.rstrip().rpartition(b"\r")[2].decode(errors="replace"))
        self._rest = rest[-LONGEST_LINE:]

    def process_exited(self) -> None:
        self.ended.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._silent.set()


async def started(
    command: Sequence[str], environment: Mapping[str, str] | None, on_line: Callable[[str], None]
) -> Child:
    """Start a process and pass each line of its standard output and error to `on_line`. Raises OSError."""
    transport, child = await asyncio.get_running_loop().subprocess_exec(
        lambda: Child(on_line),
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        start_new_session=True,  # a terminal interrupt reaches only the gateway, which drains first
    )
    child.transport = transport
    return child
