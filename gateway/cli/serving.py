"""A gateway of our own on a free loopback port, for commands that need one."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvicorn

from gateway.app import App, create_app
from gateway.settings import Settings
from policies.schema import Policy


@dataclass(frozen=True)
class Served:
    app: App
    url: str
    """The base URL for an OpenAI client."""


@asynccontextmanager
async def serving(settings: Settings, policies: Iterable[Policy] = ()) -> AsyncIterator[Served]:
    """Serves while entered."""
    app = create_app(settings, policies)
    # The protocol is named because asyncio sets TCP_NODELAY by it.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", access_log=False, log_level="warning"))

        async with app.router.lifespan_context(app):
            task = asyncio.create_task(server.serve([bound]))
            try:
                yield Served(app, f"http://127.0.0.1:{bound.getsockname()[1]}/v1")
            finally:
                server.should_exit = True
                await task
