"""A child process whose output is read line by line, and which is terminated with its process group."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import cast

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 65_536
DRAIN_TIMEOUT_S = 1.0
"""Seconds to read the remaining output of a process that has exited."""
HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACEHUB_API_TOKEN")
"""Names of variables with a token for Hugging Face; others may end in one of these."""


class ChildProcess(asyncio.SubprocessProtocol):
    """A process started by `start_child`.

    `exited` is set as soon as the process exits. asyncio's own `Process.wait` also waits until its children
    have closed the pipes that they inherited.
    """

    transport: asyncio.SubprocessTransport

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self.exited = asyncio.Event()
        self._on_line = on_line
        self._output_closed = asyncio.Event()
        self._partial_line = b""

    @property
    def pid(self) -> int:
        return self.transport.get_pid()

    @property
    def exit_code(self) -> int:
        return self.transport.get_returncode() or 0

    def write_line(self, line: bytes) -> None:
        """Write a line to its standard input, which stays open."""
        cast(asyncio.WriteTransport, self.transport.get_pipe_transport(0)).write(line + b"\n")

    async def terminate(self, timeout_s: float) -> None:
        """Terminate the process, or kill it after `timeout_s`, then kill what is left of its process
        group."""
        for stop in (self.transport.terminate, self.transport.kill):
            if self.exited.is_set():
                break
            with suppress(ProcessLookupError):
                stop()
            await self._wait_for_exit(timeout_s)
        with suppress(ProcessLookupError, PermissionError):  # macOS raises the latter for a dead group
            os.killpg(self.pid, signal.SIGKILL)  # the process leads its group
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                await self._output_closed.wait()
        self.transport.close()

    async def _wait_for_exit(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self.exited.wait()
        except TimeoutError:
            log.warning("process %d has not ended within %.0f s", self.pid, timeout_s)

    # Called by asyncio:

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, rest = (self._partial_line + data).split(b"\n")
        for line in lines:
            # Drop what a progress bar has overwritten.
            self._on_line(line.rstrip().rpartition(b"\r")[2].decode(errors="replace"))
        self._partial_line = rest[-MAX_LINE_BYTES:]

    def process_exited(self) -> None:
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._output_closed.set()


async def start_child(
    command: Sequence[str], environment: Mapping[str, str] | None, on_line: Callable[[str], None]
) -> ChildProcess:
    """Start a process and pass each line of its standard output and error to `on_line`. Raises OSError."""
    transport, child = await asyncio.get_running_loop().subprocess_exec(
        lambda: ChildProcess(on_line),
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        start_new_session=True,  # a terminal interrupt reaches only the gateway, which drains first
    )
    child.transport = transport
    return child


def inherit_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the gateway's environment without secrets that the engine does not need: providers' keys, and the tokens
    with which the gateway has fetched the weights."""
    return {
        name: value for name, value in environment.items() if not name.endswith(("_API_KEY", *HUB_TOKENS))
    }
