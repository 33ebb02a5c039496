"""The baseline: a bare pass-through on uvicorn and aiohttp that relays bytes and does nothing else.

`python -m benchmarks.overhead.bare --port 9001 --upstream http://127.0.0.1:9000`
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp
import uvicorn
from yarl import URL

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_REQUEST_HEADERS = {"content-type": "application/json"}


class Relay:
    """An ASGI application: one upstream, one shared client session."""

    def __init__(self, upstream: str) -> None:
        self.url = URL(f"{upstream}/v1/chat/completions")
        self.session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
        elif scope["type"] == "http":
            await self.relay(receive, send)

    async def lifespan(self, receive: Receive, send: Send) -> None:
        """Open the session at the start, close it at the end."""
        await receive()
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        self.session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.session.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def relay(self, receive: Receive, send: Send) -> None:
        """A reply of known length goes back whole, any other as its bytes arrive."""
        assert self.session is not None
        body = await _body(receive)
        async with self.session.post(self.url, data=body, headers=_REQUEST_HEADERS) as response:
            headers = [(b"content-type", response.headers["content-type"].encode())]
            length = response.headers.get("content-length")
            if length is not None:
                headers.append((b"content-length", length.encode()))
            await send({"type": "http.response.start", "status": response.status, "headers": headers})
            if length is not None:
                await send({"type": "http.response.body", "body": await response.read()})
                return
            async for piece in response.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return body


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="the stub, as http://host:port")
    args = parser.parse_args()
    uvicorn.run(
        Relay(args.upstream),
        host="127.0.0.1",
        port=args.port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        workers=1,
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
