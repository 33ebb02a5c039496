"""Supervises a local engine as a child process: starts it, checks its health and restarts it with back-off, also if it
hangs."""

import asyncio
import json
import logging
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.upstreams.transport.http_client import HttpTransport
from gateway.upstreams.transport.transport import TransportError

from .child_process import ChildProcess, start_child
from .start_progress import READY, Stage, StartClock, StartStep
from .startup_error import MAX_LOG_LINES, find_error_lines
from .watchdog import VitalSigns, wait_until_hung

log = logging.getLogger(__name__)

MIN_BACK_OFF_S = 0.25
MAX_BACK_OFF_S = 30.0
STABLE_AFTER_S = 60.0
"""Seconds of running after which the next crash resets the back-off."""
HEALTH_INTERVAL_S = 0.1
HEALTH_TIMEOUT_S = 2.0
HUNG_EXIT_TIMEOUT_S = 1.0
"""Seconds for an engine that hangs to exit before it is killed."""
REPORT_INTERVAL_S = 1.0
"""Seconds between two reports that a stage of a start goes on."""


class EngineFailed(RuntimeError):
    """The engine exited before it was ready for the first time."""


async def skip_warm_up() -> None:
    """Do nothing, for engines that need no warm-up."""


class LaunchSpec(NamedTuple):
    """How to start an engine and to detect that it is ready.

    `config` is written to the child's standard input as one line of JSON, so that its arguments and
    environment hold no secret. The pipe stays open: a child that reads its end knows that the parent has
    died. `warm_up` is awaited after `health_url` first answers 200, before the engine counts as ready. If it
    raises TransportError, the health check is repeated. A start begins in `first_stage`; `parse_stage` returns the
    stage that a log line announces. `exit_timeout_s` is the maximum time to exit before the engine is killed.
    """

    name: str
    command: Sequence[str]
    config: Mapping[str, Any]
    health_url: str
    environment: Mapping[str, str] | None = None
    warm_up: Callable[[], Awaitable[None]] = skip_warm_up
    first_stage: Stage = Stage("starting")
    parse_stage: Callable[[str], Stage | None] = lambda line: None
    exit_timeout_s: float = 5.0


class Supervisor:
    """Runs an engine until `stop`, and restarts it when it exits, or when `vital_signs` show that it hangs.

    `port_holder` reserves the engine's port between its runs. `on_running` is called with each change,
    `on_restart` at each restart, and `report` with each stage of a start, and every second of it.
    """

    def __init__(
        self,
        launch: LaunchSpec,
        *,
        vital_signs: VitalSigns | None = None,
        port_holder: socket.socket | None = None,
        on_running: Callable[[bool], None],
        on_restart: Callable[[], None] = lambda: None,
        report: Callable[[StartStep], None] = lambda step: None,
    ) -> None:
        self.name = launch.name
        self._launch = launch
        self._vital_signs = vital_signs
        self._port_holder = port_holder
        self._on_running = on_running
        self._on_restart = on_restart
        self._report = report
        self._task: asyncio.Task[None] | None = None
        self._first_ready: asyncio.Future[None] | None = None
        self._clock = self._start_clock()
        self._last_lines: deque[str] = deque(maxlen=MAX_LOG_LINES)

    def start(self) -> None:
        self._first_ready = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep_running(), name=f"supervisor of {self.name}")

    async def wait_until_ready(self) -> None:
        """Wait until the engine is ready for the first time. Raises EngineFailed if it exits before that."""
        assert self._first_ready is not None  # noqa: S101  `start` must be called first
        await asyncio.shield(self._first_ready)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._first_ready is not None and not self._first_ready.cancel():
            self._first_ready.exception()  # mark it as retrieved if nobody waited for the engine
        if self._port_holder is not None:
            self._port_holder.close()

    async def _keep_running(self) -> None:
        back_off_s = MIN_BACK_OFF_S
        while True:
            self._clock = self._start_clock()
            self._clock.report_new()
            try:
                code = await self._run_once()
            except OSError as error:
                log.error("%s could not be started: %s", self.name, error.strerror or error)
                code = -1
            if self._first_ready is not None and not self._first_ready.done():
                self._first_ready.set_exception(self._build_failure(code))
                return
            uptime_s = self._clock.elapsed_s
            back_off_s = MIN_BACK_OFF_S if uptime_s > STABLE_AFTER_S else min(MAX_BACK_OFF_S, back_off_s * 2)
            log.warning(
                "%s ended with code %s after %.1f s; restarting in %.2f s",
                self.name,
                code,
                uptime_s,
                back_off_s,
            )
            self._on_restart()
            await asyncio.sleep(back_off_s)

    def _start_clock(self) -> StartClock:
        return StartClock(self.name, self._launch.first_stage, self._report, time.monotonic)

    def _build_failure(self, code: int) -> EngineFailed:
        log_end = "".join(f"\n  {line}" for line in find_error_lines([*self._last_lines]))
        return EngineFailed(
            f"{self.name} ended with code {code} before it was ready{log_end and ':'}{log_end}"
        )

    async def _run_once(self) -> int:
        """Run the engine until it exits, and return its exit code."""
        child = await start_child(self._launch.command, self._launch.environment, self._handle_line)
        care = asyncio.create_task(self._attend(child))
        reports = asyncio.create_task(self._report_waiting())
        try:
            child.write_line(json.dumps(self._launch.config).encode())
            await child.exited.wait()
            return child.exit_code
        finally:
            care.cancel()
            reports.cancel()
            self._on_running(False)
            await child.terminate(self._launch.exit_timeout_s)
            await asyncio.gather(care, reports, return_exceptions=True)

    async def _report_waiting(self) -> None:
        """Report every second that the start goes on, until the engine is ready."""
        while not self._clock.is_ready:
            await asyncio.sleep(REPORT_INTERVAL_S)
            if not self._clock.is_ready:
                self._clock.report_waiting()

    async def _attend(self, child: ChildProcess) -> None:
        """Announce when the engine is ready. End it if it hangs after that."""
        await self._announce_when_ready(child)
        if self._vital_signs is not None:
            await wait_until_hung(self._vital_signs)
            log.error("%s hangs: no token in %.0f s; ending it", self.name, self._vital_signs.limit_s)
            self._on_running(False)
            await child.terminate(HUNG_EXIT_TIMEOUT_S)

    def _handle_line(self, line: str) -> None:
        log.info("%s: %s", self.name, line)
        self._last_lines.append(line)
        stage = self._launch.parse_stage(line)
        if stage is not None:
            self._clock.enter(stage)

    async def _announce_when_ready(self, child: ChildProcess) -> None:
        url = self._launch.health_url
        client = HttpTransport(url, {}, connect=HEALTH_TIMEOUT_S, gap=HEALTH_TIMEOUT_S, keep_alive=False)
        while not child.exited.is_set():
            if await self._is_ready(client):
                self._announce_ready()
                return
            await asyncio.sleep(HEALTH_INTERVAL_S)

    def _announce_ready(self) -> None:
        log.info("%s is ready", self.name)
        self._clock.enter(Stage(READY))
        self._on_running(True)
        if self._first_ready is not None and not self._first_ready.done():
            self._first_ready.set_result(None)

    async def _is_ready(self, client: HttpTransport) -> bool:
        try:
            response = await client.get(self._launch.health_url, HEALTH_TIMEOUT_S)
            response.close()
            if response.status == 200:
                await self._launch.warm_up()
        except TransportError:
            return False
        return response.status == 200


def reserve_port(socket_option: int) -> tuple[socket.socket, int]:
    """Reserve a loopback port between an engine's runs; return the bound socket, which does not listen, and
    the port.

    A server can bind the port too with the same socket option: SO_REUSEPORT, or on Linux SO_REUSEADDR.
    """
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    holder.setsockopt(socket.SOL_SOCKET, socket_option, 1)
    holder.bind(("127.0.0.1", 0))
    return holder, holder.getsockname()[1]
