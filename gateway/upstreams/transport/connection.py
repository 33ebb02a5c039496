"""An HTTP/1.1 connection (RFC 9112): sends a request, and buffers the response."""

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway.timers import Deadline, Deadlines

from .transport import MAX_ANSWER, TransportError, describe_os_error, read_whole, too_large

HIGH_WATER_BYTES = 2**18
"""Buffered bytes of a body above which reading from the socket pauses."""

MAX_FRAMING_BYTES = 2**16
"""Maximum bytes of heads, trailers and chunk extensions that may arrive without a byte of a body."""

WRITE_CHUNK_BYTES = 2**18
"""Maximum bytes of a request that are written at once."""


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time.

    Of the current response, `status` is 0 until its head has arrived, `parts` holds the body's bytes that were not
    taken yet, and `ended` is whether it is complete. `failure` is why it can not be completed, else None.

    `on_close` is called once, when the connection closes.
    """

    deadline: Deadline
    """The time limit of what is awaited: a head, more of a body, the next request."""

    def __init__(self, deadlines: Deadlines, on_close: Callable[["Connection"], None]) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.parts: list[bytes] = []
        self.ended = False
        self.closed = False
        self.failure: TransportError | None = None
        # The parser calls `append` directly, without a Python frame for each piece.
        self.on_body = self.parts.append
        self._deadlines = deadlines
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        self._parser = HttpResponseParser(self)
        # RFC 9112 tells recipients to tolerate folded lines, LF alone and blanks after a chunk's size.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._transport: asyncio.Transport
        self._is_made = False
        self._waiter: asyncio.Future[None] | None = None
        self._timeout_s = 0.0
        self._buffered_bytes = 0
        self._keeps_alive = False
        self._is_request_cut = False
        self._is_writing_paused = False
        self._is_reading_paused = False

    @property
    def is_reusable(self) -> bool:
        """Whether the response has ended and another request may be sent."""
        return (
            self._keeps_alive
            and self.ended
            and not (self.closed or self._is_request_cut or self._is_reading_paused)
        )

    async def send_request(self, head: bytes, body: bytes, timeout_s: float, due: float) -> None:
        """Send a request, and return when the response's head has arrived.

        `due` is the time limit by the loop's clock; `timeout_s`, the same limit in seconds, is for the error message.
        Raises TransportError.
        """
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
        """Send a large body as fast as the server reads it. Stop if the server answers with status 300 or more."""
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
        """Raise TransportError if the response can not be completed."""
        if self.failure is not None:
            raise self.failure

    def wait_for_change(self) -> asyncio.Future[None]:
        """Return a future that is done when the connection's state changes."""
        self._waiter = self._loop.create_future()
        return self._waiter

    def take_body(self) -> bytes:
        """Return what has arrived of the body since the last call."""
        parts = self.parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._buffered_bytes = 0
        if self._is_reading_paused:
            self._is_reading_paused = False
            self._transport.resume_reading()
        return data

    def close(self) -> None:
        """Close the connection at once. The server sees that its client has left."""
        self._break("lost", "the connection was closed by us")

    def abandon(self) -> None:
        """Close the connection, or have it closed as soon as it is made: whoever wanted it has left.

        uvloop tells no protocol that its connection is closed if `create_connection` is cancelled after that.
        """
        if self._is_made:
            self.close()
        self.closed = True

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

    # Callbacks of the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport is no subclass
        if self.closed:
            self._transport.abort()
            return
        self._is_made = True
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
            self.ended = True  # without a length, a body ends with its connection
        self._break("lost", _describe_loss(self.status, "the server closed the connection"))

    def connection_lost(self, error: Exception | None) -> None:
        self._break("lost", _describe_loss(self.status, describe_os_error(error)))
        del self._parser  # this breaks a reference cycle, which only garbage collection frees

    def pause_writing(self) -> None:
        self._is_writing_paused = True

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        self._wake()

    # Callbacks of the parser.

    def on_message_begin(self) -> None:
        if self.ended:
            raise ValueError("nothing was asked")  # a second response: `data_received` closes the connection
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
            return  # an interim response
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
    """A `Response` that is read from its connection as it arrives.

    It owns the connection until `close`, which passes the connection to `release`. `gap` is the maximum seconds between
    two reads, and `limit` the maximum bytes of the body.
    """

    __slots__ = (
        "_closed",
        "_connection",
        "_fields",
        "_gap",
        "_limit",
        "_release",
        "_size",
        "status",
        "waited_s",
    )

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
        self._size = 0
        self.waited_s = 0.0

    @property
    def headers(self) -> Mapping[str, str]:
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self._fields.items()}

    async def read(self, limit: int = MAX_ANSWER) -> bytes:
        if self._connection.ended:  # a short body arrives with the head
            body = self._take()
            if len(body) > limit:
                raise too_large(limit)
            return body
        return await read_whole(self, limit)

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
            finally:  # the limit does not apply between calls, while the gateway or a slow client is busy
                connection.deadline.due = math.inf
                self.waited_s += connection.time() - began
        return self._take()

    def _take(self) -> bytes:
        data = self._connection.take_body()
        self._size += len(data)
        if self._size > self._limit:
            raise too_large(self._limit)
        return data

    def close(self) -> None:
        """Keep the connection for the next request if the response has ended, else close it."""
        if not self._closed:
            self._closed = True
            self._release(self._connection)


def _describe_loss(status: int, reason: str) -> str:
    return f"{'the response broke off' if status else 'no response'}: {reason}"
