"""Our own HTTP/1.1 client: requests to one origin on kept connections (docs/decisions/0006-own-http-client.md)."""

import asyncio
import math
import ssl
from collections.abc import Coroutine, Mapping
from typing import Any

from gateway.timers import Deadlines

from .connection import Connection
from .dial import dial, trusted
from .inflate import inflated
from .origin import check_headers, origin_of, request_head
from .transport import MAX_BODY, Response, read_whole, too_large


class HttpTransport:
    """Asks the origin of `url`, and no other. Follows no redirect, keeps no cookie, asks no proxy.

    `headers` go with every request. `connect` and `gap` (between two reads of a response) are time limits in
    seconds. `keep_alive` is off for servers that close connections they said they would keep; else one is kept
    for `idle` seconds. `tls` verifies the server, by the system's certificates where it is not given. `limit` is the
    most bytes of a body that is read whole. Raises ValueError for a URL that no request can be sent to, and for headers
    that would break one.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        connect: float,
        gap: float,
        keep_alive: bool = True,
        idle: float = 30.0,
        tls: ssl.SSLContext | None = None,
        limit: int = MAX_BODY,
    ) -> None:
        check_headers(headers)
        self._origin = origin_of(url)
        self._tls = (tls or trusted()) if self._origin.scheme == "https" else None
        self._headers = headers if keep_alive else {"Connection": "close", **headers}
        self._connect = connect
        self._gap = gap
        self._keep_alive = keep_alive
        self._kept_for = idle
        self._limit = limit
        self._deadlines = Deadlines()
        self._heads: dict[tuple[str, str], bytes] = {}
        self._idle: dict[Connection, None] = {}
        self._open: set[Connection] = set()

    # These give the coroutine that does the work, not one around it: it is resumed with every read.

    def get(self, url: str, wait: float) -> Coroutine[Any, Any, Response]:
        return self._ask(self._head("GET", url) + b"\r\n", b"", wait)

    def post(self, url: str, body: bytes, wait: float) -> Coroutine[Any, Any, Response]:
        return self._ask(b"%bContent-Length: %d\r\n\r\n" % (self._head("POST", url), len(body)), body, wait)

    async def close(self) -> None:
        for connection in list(self._open):
            connection.close()
        await asyncio.sleep(0)  # sockets are closed in the loop's next turn

    async def _ask(self, head: bytes, body: bytes, wait: float) -> Response:
        due = asyncio.get_running_loop().time() + wait
        connection = self._idle.popitem()[0] if self._idle else await self._dial(min(self._connect, wait))
        try:
            await connection.ask(head, body, wait, due)
        except BaseException:
            connection.close()
            raise
        response = HttpResponse(connection, self._gap, self, self._limit)
        coding = connection.headers.get(b"content-encoding")
        return response if coding is None else inflated(response, coding, self._limit)

    async def _dial(self, limit: float) -> Connection:
        connection = await dial(self._make, self._origin, self._tls, limit)
        if not connection.closed:
            self._open.add(connection)
        return connection

    def _make(self) -> Connection:
        return Connection(self._deadlines, self._forget)

    def keep(self, connection: Connection) -> None:
        """For the next request, where that is possible."""
        if self._keep_alive and connection.reusable:
            connection.deadline.postpone(self._kept_for)
            self._idle[connection] = None
        else:
            connection.close()

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def _head(self, method: str, url: str) -> bytes:
        head = self._heads.get((method, url))
        if head is None:
            if origin_of(url) != self._origin:
                raise ValueError(f"a request to another server than {self._origin.authority}")
            head = self._heads[method, url] = request_head(method, url, self._headers)
        return head


class HttpResponse:
    """A `Response` as it arrives on its connection, which it has until it is closed."""

    __slots__ = ("_closed", "_connection", "_fields", "_gap", "_limit", "_transport", "status")

    def __init__(
        self, connection: Connection, gap: float, transport: HttpTransport, limit: int = MAX_BODY
    ) -> None:
        self.status = connection.status
        self._fields = connection.headers
        self._connection = connection
        self._gap = gap
        self._limit = limit
        self._transport = transport
        self._closed = False

    @property
    def headers(self) -> Mapping[str, str]:
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self._fields.items()}

    async def read(self) -> bytes:
        if self._connection.ended:
            body = self._connection.take()  # it came with the head, as short responses do
            if len(body) > self._limit:
                raise too_large(self._limit)
            return body
        return await read_whole(self, self._limit)

    async def next(self, gap: float | None = None) -> bytes:
        connection = self._connection
        while not connection.parts:
            if connection.ended:
                return b""
            connection.check()
            connection.deadline.postpone(gap or self._gap)
            try:
                await connection.news()
            finally:  # between reads it is us, or a slow client, that is waited for
                connection.deadline.due = math.inf
        return connection.take()

    def close(self) -> None:
        """Keeps the connection for the next request where the response has ended, else closes it."""
        if not self._closed:
            self._closed = True
            self._transport.keep(self._connection)
