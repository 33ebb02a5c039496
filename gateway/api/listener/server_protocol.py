"""uvicorn's HTTP protocol, with limits on slow and large requests."""

import asyncio
from functools import partial
from typing import Any, cast

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.api.settings import Listen
from gateway.errors import ApiError
from gateway.timers import Deadline, Deadlines

from .joining_transport import JoiningTransport

MAX_HEAD_BYTES = 2**16
"""Maximum bytes of a request's line and headers."""
MAX_FRAMING = 2
"""Maximum bytes received for each byte of a body: its chunks have sizes, and trailers may follow."""
LINGER_S = 1.0
"""Seconds for which the client of a refused request may go on sending."""
UPGRADE_HEADERS = (b"connection", b"upgrade", b"http2-settings")


def build_protocol(listen: Listen) -> type[asyncio.Protocol]:
    """Return what uvicorn is to call for each connection."""
    return cast(type[asyncio.Protocol], partial(ListenerProtocol, listen=listen, deadlines=Deadlines()))


class ListenerProtocol(HttpToolsProtocol):
    """One connection of a client.

    A head must arrive within `head_timeout` seconds, and the parts of a body within `body_timeout` of each other. Only
    a request that does not arrive in one read is watched, so that others cost nothing. An `Upgrade` is ignored.
    """

    def __init__(self, *args: Any, listen: Listen, deadlines: Deadlines, **more: Any) -> None:
        super().__init__(*args, **more)
        self._listen = listen
        self._deadlines = deadlines
        self._deadline: Deadline | None = None
        self._size = 0
        """Bytes received of the request that is incomplete."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, JoiningTransport(transport, self.loop)))
        self._watch(self._listen.head_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(ApiError(400, "invalid_http", f"the request is not valid HTTP/1.1: {error}"))
        else:
            if self._deadline is not None or not self._has_whole_request():
                self._check_progress(len(data))

    def on_headers_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()
            self.cycle.more_body = False

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Parse the request again without its `Upgrade`: the parser takes what follows for another protocol.

        `rest` is what follows the head. Java's client asks for HTTP/2 in this way by default.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            what = "this is a server and no proxy: it takes no CONNECT"
            self._refuse(ApiError(405, "method_not_allowed", what))
            return
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] not in UPGRADE_HEADERS]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join([*lines, b"", rest]))

    def _has_whole_request(self) -> bool:
        """Return whether a request has arrived that is not yet answered, and nothing after it."""
        return "method" in self.scope and not (self.cycle.more_body or self.cycle.response_complete)

    def _check_progress(self, count: int) -> None:
        """Watch a request that is incomplete after `count` more bytes. Refuse one that has too many."""
        if self._awaits_head():
            self._size += count
            if self._size > MAX_HEAD_BYTES:
                what = f"the request's head is over the limit of {MAX_HEAD_BYTES} bytes"
                self._refuse(ApiError(431, "head_too_large", what))
            elif self._deadline is None:
                self._watch(self._listen.head_timeout)
        elif self.cycle.more_body:
            self._size += count
            if self._size > MAX_HEAD_BYTES + MAX_FRAMING * self._listen.body_limit:
                what = f"the request body is over the limit of {self._listen.body_limit} bytes"
                self._refuse(ApiError(413, "body_too_large", what))
            else:
                self._watch(self._listen.body_timeout)
        elif self._deadline is not None:
            self._stop_watching()

    def _awaits_head(self) -> bool:
        """Return whether the next bytes belong to a head: one that has begun, or the next request's."""
        scope = cast(Any, self.scope)  # None before the first request, whatever its type says
        if scope is None or "method" not in scope:
            return True
        return self.cycle.response_complete and not self.cycle.more_body

    def _watch(self, seconds: float) -> None:
        if self._deadline is None:
            self._deadline = self._deadlines.schedule(seconds, self._on_deadline, repeated=True)
        else:
            self._deadline.postpone(seconds)

    def _stop_watching(self) -> None:
        self._size = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _on_deadline(self) -> None:
        """Refuse a request that is too slow, unless the gateway is still busy with it or with the one before."""
        awaits_head = self._awaits_head()
        is_answering = awaits_head and self.cycle is not None and not self.cycle.response_complete
        if self.flow.read_paused or is_answering:
            self._watch(self._listen.body_timeout)
            return
        listen = self._listen
        part, seconds = ("head", listen.head_timeout) if awaits_head else ("body", listen.body_timeout)
        what = f"the rest of the request's {part} did not arrive within {seconds:g} s"
        self._refuse(ApiError(408, "request_timeout", what))

    def _refuse(self, error: ApiError) -> None:
        """Close the connection, with an error if a request has begun that has no response yet."""
        self._stop_watching()
        if not self._can_respond():
            self.transport.close()
            return
        for part in _encode_error(error):
            self.transport.write(part)
        self._linger()

    def _linger(self) -> None:
        """Close the connection once the client has, or soon. Data after a close would cost the client the error."""
        self.transport.write_eof()
        self.flow.resume_reading()
        self.transport.set_protocol(_Lingering(self))
        self._deadline = self._deadlines.schedule(LINGER_S, self.transport.close)

    def _can_respond(self) -> bool:
        scope, cycle = cast(Any, self.scope), cast(Any, self.cycle)  # None before the first request
        if scope is None or cycle is None:
            return scope is not None
        return bool(cycle.response_complete if "method" not in scope else not cycle.response_started)


class _Lingering(asyncio.Protocol):
    """Ignores what a client still sends on a connection that has been refused."""

    def __init__(self, connection: ListenerProtocol) -> None:
        self._connection = connection

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)


def _encode_error(error: ApiError) -> tuple[bytes, bytes]:
    """Return the head and the body of a response."""
    body = orjson.dumps(error.body())
    head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
    return STATUS_LINE[error.status] + head, body
