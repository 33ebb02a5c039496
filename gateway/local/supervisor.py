"""A local engine as a child process: started, watched, restarted with back-off, ended with its parent."""

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any

from gateway.upstreams.http11 import HttpTransport
from gateway.upstreams.transport import Broken

log = logging.getLogger(__name__)

FIRST_REST = 0.25
LONGEST_REST = 30.0
STEADY = 60.0
"""Seconds after which an engine counts as having run well: the next crash starts the back-off anew."""
HEALTH_PERIOD = 0.1
HEALTH_PATIENCE = 2.0
STOP_PATIENCE = 5.0
LONGEST_LINE = 65_536


class EngineFailed(RuntimeError):
    """The engine ended before it was ready the first time."""


class Supervisor:
    """Runs `command` until `stop`. `config` goes to the child's standard input as one line of JSON, so that no
    secret stands in its arguments or environment; the pipe stays open, and a child that reads its end knows
    that the parent is gone, however it died.

    `port_holder` keeps the engine's port ours between its lives. `on_running` hears each change; `on_restart`
    each restart.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        config: dict[str, Any],
        health_url: str,
        *,
        port_holder: socket.socket | None = None,
        on_running: Callable[[bool], None],
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._command = command
        self._config = config
        self._health_url = health_url
        self._port_holder = port_holder
        self._on_running = on_running
        self._on_restart = on_restart
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._first: asyncio.Future[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Returns when the engine answers its health check. Raises EngineFailed."""
        self._first = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep_running(), name=f"supervisor of {self.name}")
        await self._first

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._port_holder is not None:
            self._port_holder.close()

    async def _keep_running(self) -> None:
        rest = FIRST_REST
        while True:
            began = asyncio.get_running_loop().time()
            try:
                code = await self._run_once()
            except OSError as error:
                log.error("%s could not be started: %s", self.name, error)
                code = -1
            if self._first is not None and not self._first.done():
                self._first.set_exception(
                    EngineFailed(f"{self.name} ended with code {code} before it was ready")
                )
                return
            lasted = asyncio.get_running_loop().time() - began
            rest = FIRST_REST if lasted > STEADY else min(LONGEST_REST, rest * 2)
            log.warning(
                "%s ended with code %s after %.1f s; restarting in %.2f s", self.name, code, lasted, rest
            )
            self._on_restart()
            await asyncio.sleep(rest)

    async def _run_once(self) -> int:
        """One life of the engine: its exit code."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # an interrupt from the terminal is the gateway's, which drains first
        )
        self._process = process
        helpers = [
            asyncio.create_task(self._carry_log(process)),
            asyncio.create_task(self._announce_when_ready(process)),
        ]
        try:
            assert process.stdin is not None  # noqa: S101  asked for above
            process.stdin.write(json.dumps(self._config).encode() + b"\n")
            return await process.wait()
        finally:
            self._on_running(False)
            await _end(process)  # while its log is still read: a full pipe would keep it from ending
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def _carry_log(self, process: asyncio.subprocess.Process) -> None:
        """Reads pieces, not lines: a line over the reader's limit must not leave the pipe to fill."""
        assert process.stdout is not None  # noqa: S101  asked for in _run_once
        rest = b""
        while data := await process.stdout.read(LONGEST_LINE):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                log.info("%s: %s", self.name, line.decode(errors="replace").rstrip())
            rest = rest[-LONGEST_LINE:]

    async def _announce_when_ready(self, process: asyncio.subprocess.Process) -> None:
        client = HttpTransport(
            self._health_url, {}, connect=HEALTH_PATIENCE, gap=HEALTH_PATIENCE, keep_alive=False
        )
        while process.returncode is None:
            if await _healthy(client, self._health_url):
                log.info("%s is ready", self.name)
                self._on_running(True)
                if self._first is not None and not self._first.done():
                    self._first.set_result(None)
                return
            await asyncio.sleep(HEALTH_PERIOD)


async def _healthy(client: HttpTransport, url: str) -> bool:
    try:
        response = await client.get(url, HEALTH_PATIENCE)
    except Broken:
        return False
    response.close()
    return response.status == 200


async def _end(process: asyncio.subprocess.Process) -> None:
    for end in (process.terminate, process.kill):
        if process.returncode is not None:
            return
        end()
        try:
            async with asyncio.timeout(STOP_PATIENCE):
                await process.wait()
        except TimeoutError:
            log.warning("process %d has not ended within %.0f s", process.pid, STOP_PATIENCE)


def reserve_port() -> tuple[socket.socket, int]:
    """A loopback port that stays ours between an engine's lives: bound, not listening, and shared with a
    server that binds it with SO_REUSEPORT."""
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind(("127.0.0.1", 0))
    return holder, holder.getsockname()[1]
