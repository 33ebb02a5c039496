"""Runs a gateway in this process on a free loopback port, for commands and tests that need one."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass

import uvicorn

from gateway.api.listener.server_protocol import build_protocol
from gateway.app import App, create_app
from gateway.cli.start_printer import build_start_printer
from gateway.local.supervision.start_progress import StartReport
from gateway.settings import Settings
from policies.schema.split import AnyPolicy

CLOSE_POLL_S = 0.005
"""Seconds between two checks whether all connections are closed."""


@dataclass(frozen=True)
class RunningGateway:
    """A gateway that is running in this process."""

    app: App
    url: str
    """The base URL for an OpenAI client."""


@asynccontextmanager
async def run_gateway(
    settings: Settings, policies: Iterable[AnyPolicy] = (), *, shows_start: bool = False
) -> AsyncIterator[RunningGateway]:
    """Run a gateway until the context exits. `policies` are served besides those of the settings. `shows_start` prints
    how the start of the local engine goes."""
    with build_start_printer() if shows_start else nullcontext(_ignore) as tell:
        # A thread, since it may read gigabytes of weights.
        app = await asyncio.to_thread(create_app, settings, policies, tell)
        async with _serve_app(app, settings) as running:
            yield running


def _ignore(report: StartReport) -> None:
    """Show nothing."""


@asynccontextmanager
async def _serve_app(app: App, settings: Settings) -> AsyncIterator[RunningGateway]:
    # The protocol is named because asyncio sets TCP_NODELAY by it.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        server = _Server(
            uvicorn.Config(
                app,
                interface="asgi3",
                http=build_protocol(settings.listen),
                ws="none",
                lifespan="off",
                access_log=False,
                log_level="warning",
            )
        )
        async with app.router.lifespan_context(app):
            if app.local is not None:
                await app.local.wait_until_ready()
            task = asyncio.create_task(server.serve([bound]))
            try:
                yield RunningGateway(app, f"http://127.0.0.1:{bound.getsockname()[1]}/v1")
            finally:
                server.stop.set()
                await task


class _Server(uvicorn.Server):
    """A uvicorn server that ends as soon as `stop` is set and no connection is open.

    uvicorn's own server checks every 0.1 s whether it should end, and waits another 0.1 s in any case."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stop = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signals: Ctrl-C is for the command that runs this gateway."""
        yield

    async def main_loop(self) -> None:
        await self.stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in [*self.servers, *(sockets or ())]:
            listener.close()
        for connection in [*self.server_state.connections]:
            connection.shutdown()
        while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110  uvicorn offers no event
            await asyncio.sleep(CLOSE_POLL_S)
