"""Supervises a local engine as a child process: starts it, checks its health and restarts it with
back-off."""

import asyncio
import json
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.upstreams.transport.http11 import HttpTransport
from gateway.upstreams.transport.transport import Broken

from .child_process import Child, started
from .startup_error import KEPT, last_words

log = logging.getLogger(__name__)

FIRST_REST = 0.25
LONGEST_REST = 30.0
STEADY = 60.0
"""Seconds of running after which the next crash resets the back-off."""
HEALTH_PERIOD = 0.1
HEALTH_PATIENCE = 2.0
READY = "ready"


class EngineFailed(RuntimeError):
    """The engine exited before it was ready for the first time."""


async def nothing() -> None:
    """Do nothing, for engines that need no warm-up."""


class Launch(NamedTuple):
    """How to start an engine and to detect that it is ready.

    `config` is written to the child's standard input as one line of JSON, so that its arguments and
    environment hold no secret. The pipe stays open: a child that reads its end knows that the parent has
    died. `warm_up` is awaited after `health_url` first answers 200, before the engine counts as ready. If it
    raises TransportError, the health check is repeated. `parse_stage` returns the stage of the start that a
    log line announces. `exit_timeout_s` is the maximum time to exit before the engine is killed.
    """

    name: str
    command: Sequence[str]
    config: Mapping[str, Any]
    health_url: str
    environment: Mapping[str, str] | None = None
    warm_up: Callable[[], Awaitable[None]] = nothing
    stage_of: Callable[[str], str | None] = lambda line: None
    patience: float = 5.0


class Supervisor:
    """Runs an engine until `stop`, and restarts it when it exits.

    `port_holder` reserves the engine's port between its runs. `on_running` is called with each change,
    `on_restart` at each restart, and `report` with each stage of a start.
    """

    def __init__(
        self,
        launch: Launch,
        *,
        port_holder: socket.socket | None = None,
        on_running: Callable[[bool], None],
        on_restart: Callable[[], None] = lambda: None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.name = launch.name
        self._launch = launch
        self._port_holder = port_holder
        self._on_running = on_running
        self._on_restart = on_restart
        self._tell = tell
        self._task: asyncio.Task[None] | None = None
        self._first: asyncio.Future[None] | None = None
        self._stage: str | None = None
        self._began = 0.0
        self._last_lines: deque[str] = deque(maxlen=KEPT)

    def start(self) -> None:
        self._first = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep_running(), name=f"supervisor of {self.name}")

    async def ready(self) -> None:
        """Wait until the engine is ready for the first time. Raises EngineFailed if it exits before that."""
        assert self._first is not None  # noqa: S101  `start` must be called first
        await asyncio.shield(self._first)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._first is not None and not self._first.cancel():
            self._first.exception()  # mark it as retrieved if nobody waited for the engine
        if self._port_holder is not None:
            self._port_holder.close()

    async def _keep_running(self) -> None:
        rest = FIRST_REST
        while True:
            self._began, self._stage = asyncio.get_running_loop().time(), None
            try:
                code = await self._run_once()
            except OSError as error:
                log.error("%s could not be started: %s", self.name, error)
                code = -1
            if self._first is not None and not self._first.done():
                self._first.set_exception(self._failed(code))
                return
            lasted = self._lasted()
            rest = FIRST_REST if lasted > STEADY else min(LONGEST_REST, rest * 2)
            log.warning(
                "%s ended with code %s after %.1f s; restarting in %.2f s", self.name, code, lasted, rest
            )
            self._on_restart()
            await asyncio.sleep(rest)

    def _lasted(self) -> float:
        """Return the seconds since the engine was last started."""
        return asyncio.get_running_loop().time() - self._began

    def _failed(self, code: int) -> EngineFailed:
        said = "".join(f"\n  {line}" for line in last_words([*self._last_lines]))
        return EngineFailed(f"{self.name} ended with code {code} before it was ready{said and ':'}{said}")

    async def _run_once(self) -> int:
        """Run the engine until it exits, and return its exit code."""
        child = await started(self._launch.command, self._launch.environment, self._heard)
        announcing = asyncio.create_task(self._announce_when_ready(child))
        try:
            child.tell(json.dumps(self._launch.config).encode())
            await child.ended.wait()
            return child.code
        finally:
            announcing.cancel()
            self._on_running(False)
            await child.end(self._launch.patience)
            await asyncio.gather(announcing, return_exceptions=True)

    def _heard(self, line: str) -> None:
        log.info("%s: %s", self.name, line)
        self._last_lines.append(line)
        stage = self._launch.stage_of(line)
        if stage is not None and self._stage not in (stage, READY):
            self._reached(stage)

    def _reached(self, stage: str) -> None:
        self._stage = stage
        self._tell(f"{self.name}: {stage} ({self._lasted():.0f} s)")

    async def _announce_when_ready(self, child: Child) -> None:
        url = self._launch.health_url
        client = HttpTransport(url, {}, connect=HEALTH_PATIENCE, gap=HEALTH_PATIENCE, keep_alive=False)
        while not child.ended.is_set():
            if await self._is_ready(client):
                self._announce()
                return
            await asyncio.sleep(HEALTH_PERIOD)

    def _announce(self) -> None:
        log.info("%s is ready", self.name)
        self._reached(READY)
        self._on_running(True)
        if self._first is not None and not self._first.done():
            self._first.set_result(None)

    async def _is_ready(self, client: HttpTransport) -> bool:
        try:
            response = await client.get(self._launch.health_url, HEALTH_PATIENCE)
            response.close()
            if response.status == 200:
                await self._launch.warm_up()
        except Broken:
            return False
        return response.status == 200


def reserve_port(shared_by: int) -> tuple[socket.socket, int]:
    """Reserve a loopback port between an engine's runs; return the bound socket, which does not listen, and
    the port.

    A server can bind the port too with the same socket option: SO_REUSEPORT, or on Linux SO_REUSEADDR.
    """
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    holder.setsockopt(socket.SOL_SOCKET, shared_by, 1)
    holder.bind(("127.0.0.1", 0))
    return holder, holder.getsockname()[1]
