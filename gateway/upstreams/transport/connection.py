"""One HTTP/1.1 connection: sends a request, holds what has arrived of its response (RFC 9112)."""

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway.timers import Deadline, Deadlines

from .transport import TransportError, read_whole, too_large

HIGH_WATER_BYTES = 2**18
"""Bytes of a body that may wait for their reader before the server has to."""

MAX_FRAMING_BYTES = 2**16
"""Bytes that may come without one of a body: heads, trailers, chunk extensions."""

WRITE_CHUNK_BYTES = 2**18
"""Bytes of a request that are written at once."""


class Connection(asyncio.Protocol):
    """One connection to a server, which carries one response at a time.

    `status` is 0 until the response's head is there, `parts` are what of its body was not taken yet, and `ended` says
    that no more comes. If it will never end, `failure` says why. `on_close` is called once, as the connection closes.
    """

    deadline: Deadline
    """When what is being waited for must have come: a head, more of a body, the next request."""

    def __init__(self, deadlines: Deadlines, on_close: Callable[["Connection"], None]) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.parts: list[bytes] = []
        self.ended = False
        self.closed = False
        self.failure: TransportError | None = None
        self.on_body = self.parts.append  # the parser's callback, without a Python frame for each piece
        self._deadlines = deadlines
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        self._parser = HttpResponseParser(self)
        # RFC 9112 has recipients bear with them: folded lines, LF alone, blanks after a chunk's size.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._transport: asyncio.Transport
        self._waiter: asyncio.Future[None] | None = None
        self._timeout_s = 0.0
        self._buffered_bytes = 0
        self._keeps_alive = False
        self._is_request_cut = False
        self._is_writing_paused = False
        self._is_reading_paused = False

    @property
    def is_reusable(self) -> bool:
        """Whether another request may be sent, now that the response has ended."""
        return (
            self._keeps_alive
            and self.ended
            and not (self.closed or self._is_request_cut or self._is_reading_paused)
        )

    async def send_request(self, head: bytes, body: bytes, timeout_s: float, due: float) -> None:
        """Send a request and return when the response's head is there, which may take `timeout_s`: until `due`,
        by the loop's clock. Raises TransportError."""
        self.raise_if_broken()
        self.status, self.ended, self._buffered_bytes = 0, False, 0
        self._timeout_s, self.deadline.due = timeout_s, due
        self.parts.clear()
        if len(body) <= WRITE_CHUNK_BYTES:
            self._transport.write(head + body)
        else:
            await self._send(head, body)
        while not self.status:
            self.raise_if_broken()
            await self.wait_for_change()
        if not self.parts:
            self.raise_if_broken()
        self.deadline.due = math.inf

    async def _send(self, head: bytes, body: bytes) -> None:
        """A large body leaves as the server takes it, and no longer than until the server refuses it."""
        self._transport.write(head)
        rest = memoryview(body)
        while rest:
            while self._is_writing_paused and not self.closed and self.status < 300:
                await self.wait_for_change()
            if self.closed or self.status >= 300:
                self._is_request_cut = True
                return
            self._transport.write(rest[:WRITE_CHUNK_BYTES])
            rest = rest[WRITE_CHUNK_BYTES:]

    def raise_if_broken(self) -> None:
        """Raise the TransportError if the response will never end."""
        if self.failure is not None:
            raise self.failure

    def wait_for_change(self) -> asyncio.Future[None]:
        """Done at the next change."""
        self._waiter = self._loop.create_future()
        return self._waiter

    def take_body(self) -> bytes:
        """What of the body has arrived since it was last taken."""
        parts = self.parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._buffered_bytes = 0
        if self._is_reading_paused:
            self._is_reading_paused = False
            self._transport.resume_reading()
        return data

    def close(self) -> None:
        """At once: the server sees its client gone."""
        self._break("lost", "the connection was closed by us")

    def _break(self, why: str, message: str) -> None:
        if not self.ended and self.failure is None:
            self.failure = TransportError(
                why, message, before_response=not self.status and not self._buffered_bytes
            )
        if not self.closed:
            self.closed = True
            self.deadline.cancel()
            self._transport.abort()
            self._on_close(self)
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _time_out(self) -> None:
        what = "the response stopped coming" if self.status else f"no response within {self._timeout_s:g} s"
        self._break("timeout", what)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self.deadline = self._deadlines.schedule(math.inf, self._time_out)

    def data_received(self, data: bytes) -> None:
        self._buffered_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._break("lost", f"what came is not HTTP as we speak it: {error.__context__ or error}")
        if self.parts:
            self._wake()
            if self._buffered_bytes > HIGH_WATER_BYTES and not self.closed:
                self._is_reading_paused = True
                self._transport.pause_reading()
        elif self._buffered_bytes > MAX_FRAMING_BYTES:
            self._break("lost", f"more than {MAX_FRAMING_BYTES} bytes came without one of a body")

    def eof_received(self) -> None:
        if self.status and not self.headers.keys() & {b"content-length", b"transfer-encoding"}:
            self.ended = True  # such a body ends with its connection
        self._break("lost", _describe_loss(self.status, "the server closed the connection"))

    def connection_lost(self, error: Exception | None) -> None:
        self._break("lost", _describe_loss(self.status, str(error)))
        del self._parser  # it holds us in turn: a cycle that only a collection would free

    def pause_writing(self) -> None:
        self._is_writing_paused = True

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        self._wake()

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self.ended:
            raise ValueError("nothing was asked")  # more than one response: `data_received` closes
        self.headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.status:
            return  # a trailer
        name, value = name.lower(), value.rstrip()
        before = self.headers.get(name)
        self.headers[name] = value if before is None else before + b", " + value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return  # it only announces the response
        if self.headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            raise ValueError("a transfer coding that was not asked for")
        self.status = status
        self._wake()

    def on_message_complete(self) -> None:
        if self.status:
            self.ended = True
            self._keeps_alive = self._parser.should_keep_alive()
            self._wake()


class HttpResponse:
    """A `Response` as it arrives on its connection.

    It has the connection until it is closed: then `release` gets it back. `gap` is the limit in seconds between two
    reads, and `limit` the maximum number of bytes of a body that is read whole.
    """

    __slots__ = ("_closed", "_connection", "_fields", "_gap", "_limit", "_release", "status", "waited_s")

    def __init__(
        self, connection: Connection, gap: float, limit: int, release: Callable[[Connection], None]
    ) -> None:
        self.status = connection.status
        self._fields = connection.headers
        self._connection = connection
        self._gap = gap
        self._limit = limit
        self._release = release
        self._closed = False
        self.waited_s = 0.0

    @property
    def headers(self) -> Mapping[str, str]:
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self._fields.items()}

    async def read(self) -> bytes:
        if self._connection.ended:
            body = self._connection.take_body()  # it came with the head, as short responses do
            if len(body) > self._limit:
                raise too_large(self._limit)
            return body
        return await read_whole(self, self._limit)

    async def next(self, gap: float | None = None) -> bytes:
        connection = self._connection
        while not connection.parts:
            if connection.ended:
                return b""
            connection.raise_if_broken()
            began = connection.time()
            connection.deadline.due = began + (gap or self._gap)
            try:
                await connection.wait_for_change()
            finally:  # between reads we are waited for, or a slow client
                connection.deadline.due = math.inf
                self.waited_s += connection.time() - began
        return connection.take_body()

    def close(self) -> None:
        """Keep the connection for the next request if the response has ended, else close it."""
        if not self._closed:
            self._closed = True
            self._release(self._connection)


def _describe_loss(status: int, reason: str) -> str:
    return f"{'the response broke off' if status else 'no response'}: {reason}"
