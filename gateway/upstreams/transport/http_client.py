"""An HTTP/1.1 client for one origin, with keep-alive connections (docs/decisions/0006-own-http-client.md)."""

import asyncio
import ssl
from collections.abc import Coroutine, Mapping
from typing import Any

from gateway.timers import Deadlines

from .connection import Connection, HttpResponse
from .content_coding import decode_content
from .dialing import dial, load_tls_context
from .origin import build_request_head, check_headers, parse_origin
from .trace import build_trace_lines
from .transport import MAX_BODY, Response


class HttpTransport:
    """Sends requests to the origin of `url`, and to no other. Follows no redirects, and uses no cookies and no proxy.

    `headers` are sent with every request, and the client's trace headers with every POST. `connect` and `gap` (between
    two reads of a response) are time limits in seconds. An idle connection is kept for `idle` seconds; `keep_alive` is
    False for servers that close connections which they promised to keep. `tls` verifies the server, by default with the
    system's certificates. `limit` is the maximum bytes of a response. Raises ValueError for an invalid
    URL or invalid headers.
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
        self._origin = parse_origin(url)
        self._tls = (tls or load_tls_context()) if self._origin.scheme == "https" else None
        self._headers = headers if keep_alive else {"Connection": "close", **headers}
        self._header_names = frozenset([name.lower().encode() for name in headers])
        self._connect = connect
        self._gap = gap
        self._keep_alive = keep_alive
        self._max_idle_s = idle
        self._limit = limit
        self._deadlines = Deadlines()
        self._request_heads: dict[tuple[str, str], bytes] = {}
        self._idle_connections: dict[Connection, None] = {}
        self._open_connections: set[Connection] = set()

    # These return the coroutine that does the work, without one around it, which would be resumed at every read.

    def get(self, url: str, timeout_s: float) -> Coroutine[Any, Any, Response]:
        return self._send(self._build_head("GET", url) + b"\r\n", b"", timeout_s)

    def post(self, url: str, body: bytes, timeout_s: float) -> Coroutine[Any, Any, Response]:
        head, trace = self._build_head("POST", url), build_trace_lines(self._header_names)
        return self._send(b"%b%bContent-Length: %d\r\n\r\n" % (head, trace, len(body)), body, timeout_s)

    async def close(self) -> None:
        for connection in list(self._open_connections):
            connection.close()
        await asyncio.sleep(0)  # sockets are closed in the loop's next turn

    async def _send(self, head: bytes, body: bytes, timeout_s: float) -> Response:
        due = asyncio.get_running_loop().time() + timeout_s
        connection = (
            self._idle_connections.popitem()[0]
            if self._idle_connections
            else await self._dial(min(self._connect, timeout_s))
        )
        try:
            await connection.send_request(head, body, timeout_s, due)
        except BaseException:
            connection.close()
            raise
        response = HttpResponse(connection, self._gap, self._limit, self.release)
        coding = connection.headers.get(b"content-encoding")
        return response if coding is None else decode_content(response, coding, self._limit)

    async def _dial(self, timeout_s: float) -> Connection:
        connection = await dial(self._new_connection, self._origin, self._tls, timeout_s)
        if not connection.closed:
            self._open_connections.add(connection)
        return connection

    def _new_connection(self) -> Connection:
        return Connection(self._deadlines, self._forget)

    def release(self, connection: Connection) -> None:
        """Keep the connection for another request if it is reusable, else close it."""
        if self._keep_alive and connection.is_reusable:
            connection.deadline.due = connection.time() + self._max_idle_s
            self._idle_connections[connection] = None
        else:
            connection.close()

    def _forget(self, connection: Connection) -> None:
        self._open_connections.discard(connection)
        self._idle_connections.pop(connection, None)

    def _build_head(self, method: str, url: str) -> bytes:
        head = self._request_heads.get((method, url))
        if head is None:
            if parse_origin(url) != self._origin:
                raise ValueError(f"a request to another server than {self._origin.authority}")
            head = self._request_heads[method, url] = build_request_head(method, url, self._headers)
        return head
