"""Runs the gateway's HTTP server until a signal stops it."""

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import ceil

import uvicorn

try:
    import uvloop
except ImportError:  # uvloop does not exist for Windows
    uvloop = None  # type: ignore[assignment]

from gateway.api.listener.server_protocol import build_protocol
from gateway.app import App, create_app
from gateway.catalog.judge_quality import judge_warnings
from gateway.cli.output import err
from gateway.cli.policies.notices import list_notices
from gateway.cli.start_printer import build_start_printer
from gateway.local.supervision.supervisor import Supervisor
from gateway.settings import Settings
from gateway.upstreams.transport.hosts import is_loopback_host

from .settings_warnings import find_settings_warnings

MAX_OPEN_FILES = 65_536

MAX_END_S = 5
"""Maximum seconds for sending the last errors, after the time that requests under way get."""


def run_server(settings: Settings, listener: socket.socket) -> None:
    """Serve on the listener until a signal stops the server. Raises ConfigError and EngineFailed."""
    _raise_open_files()
    with build_start_printer() as print_start:
        app = create_app(settings, tell=print_start)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop if uvloop else None) as runner:
            runner.run(_run(app, settings, listener))


async def _run(app: App, settings: Settings, listener: socket.socket) -> None:
    drain_s = settings.listen.drain
    server = _Server(
        app,
        drain_s,
        uvicorn.Config(
            app,
            interface="asgi3",
            loop="none",
            http=build_protocol(settings.listen),
            ws="none",
            lifespan="off",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            log_level="warning",
            timeout_graceful_shutdown=ceil(drain_s + MAX_END_S),
        ),
    )
    async with app.router.lifespan_context(app):
        if app.local is not None and settings.local is not None and settings.local.starts_soon:
            await app.local.wait_until_ready()
        if sys.platform != "win32":
            _handle_hangups(server, app)
        print_welcome(app, settings, listener)
        _tune_garbage_collector()
        await _serve_with(app.local, server, listener)


async def _serve_with(local: Supervisor | None, server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve until the server is stopped. Raises EngineFailed if the local engine cannot be started."""
    if local is None:
        await server.serve([listener])
        return
    starting = asyncio.create_task(local.wait_until_ready(), name="start of the local engine")

    def stop_if_failed(task: asyncio.Task[None]) -> None:
        server.should_exit = server.should_exit or (not task.cancelled() and task.exception() is not None)

    starting.add_done_callback(stop_if_failed)
    await server.serve([listener])
    if starting.done():
        starting.result()
    starting.cancel()


def _handle_hangups(server: uvicorn.Server, app: App) -> None:
    """Reload the policies on SIGHUP. A closing terminal sends SIGHUP too, and ends its server."""
    in_terminal = os.isatty(0)

    def handle_hangup() -> None:
        if in_terminal and not os.isatty(0):
            server.should_exit = True
        else:
            app.policies.reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, handle_hangup)


class _Server(uvicorn.Server):
    """A uvicorn server that shuts down in order on SIGINT and SIGTERM.

    uvicorn's own server raises the signal again as soon as it has stopped serving. That would end the process
    before records are written and the engine is stopped. It also cuts off the requests that still run when their time
    is over; here they end with an error each."""

    def __init__(self, app: App, drain_s: float, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._app = app
        self._drain_s = drain_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let running requests end for `drain_s` seconds, or until a second SIGINT. Then end those that still run."""
        drained = asyncio.get_running_loop().call_later(self._drain_s, self._end_requests)
        try:
            await super().shutdown(sockets)
        finally:
            drained.cancel()
        if tasks := self._end_requests():
            await asyncio.wait(tasks, timeout=MAX_END_S)

    def _end_requests(self) -> set[asyncio.Task[None]]:
        """Cancel the running requests, which then answer with an error. Return their tasks."""
        self._app.shutdown.is_due = True
        tasks = {*self.server_state.tasks}
        for task in tasks:
            task.cancel()
        return tasks

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        handlers = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _raise_open_files() -> None:
    """Raise the limit on open files as far as the system lets it: each connection takes one, and 256 are soon used."""
    if sys.platform == "win32":
        return
    import resource  # which Windows does not have

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS names a hard limit that it does not grant
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _tune_garbage_collector() -> None:
    """Exclude objects built at start-up from garbage collection, and make collections rarer.

    Start-up objects live as long as the process, and requests leave few reference cycles."""
    gc.freeze()
    gc.set_threshold(5_000, 10, 20)


def describe_address(listener: socket.socket) -> tuple[str, str]:
    """Return where the gateway listens, and the URL by which this machine reaches it, without `/v1`."""
    host, port = listener.getsockname()[:2]
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  compared, not bound
    url = f"http://[{local}]:{port}" if ":" in local else f"http://{local}:{port}"
    if local == host:
        return f"{url}/v1", url
    return f"all addresses of this machine, port {port}: {url}/v1 from here", url


def print_welcome(app: App, settings: Settings, listener: socket.socket) -> None:
    """Print where the gateway listens, what it serves, and a request to try."""
    catalog = app.policies.catalog
    address, url = describe_address(listener)
    err.print(f"[bold]Smallfirst[/bold] listens on [bold]{address}[/bold]")
    if not is_loopback_host(settings.listen.host):
        err.print("  open      whoever reaches it can use it: clients are not authenticated", markup=False)
    for upstream in [upstream for pool in app.pools.values() for upstream in pool.upstreams]:
        free = upstream.tier == "slm" or upstream.has_price
        state = ", starting" if upstream.is_restarting else ""
        price = "" if free else ", price unknown: its calls count as 0 USD"
        err.print(f"  {upstream.tier}       {upstream.model} ({upstream.name}{state}{price})", markup=False)
    if "llm" not in app.pools:
        err.print(
            "  llm       none: set OPENAI_API_KEY, or name an upstream in smallfirst.yaml", markup=False
        )
    err.print(f"  policies  {', '.join(catalog.policies)}", markup=False)
    for notice in list_notices(catalog, app.pools, settings.local):
        err.print(f"  {notice}", markup=False)
    for name, policy in catalog.policies.items():
        for warning in judge_warnings(policy, app.pools):
            err.print(f"  policy {name}: {warning}", markup=False)
    for warning in find_settings_warnings(settings):
        err.print(f"  {warning}", markup=False)
    err.print(f"  records   {settings.records.path or 'not kept'}", markup=False)
    model = next((name for name in ("auto", *catalog.names()) if name in catalog.policies), "auto")
    body = (
        f'{{"model": "{model}", "messages": [{{"role": "user", "content": "What is the opposite of hot?"}}]}}'
    )
    err.print(
        f"Try:\n  curl -i {url}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'",
        markup=False,
    )
