"""Properties of one connection: a response arrives equal however its bytes are cut, and never shorter unseen."""

import asyncio
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.timers import Deadlines
from gateway.upstreams.transport.connection import HIGH_WATER_BYTES, Connection, HttpResponse
from gateway.upstreams.transport.http_client import HttpTransport
from gateway.upstreams.transport.transport import MAX_BODY, TransportError


class Wire(asyncio.Transport):
    """A transport without a network."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.aborted = False
        self.reading = True

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


@dataclass(frozen=True)
class Sent:
    """A response as a server might send it."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    framing: str
    chunks: tuple[int, ...]
    announced: bytes = b""

    @property
    def head(self) -> bytes:
        length = {
            "length": f"Content-Length: {len(self.body)}\r\n",
            "chunked": "Transfer-Encoding: chunked\r\n",
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        text = f"HTTP/1.1 {self.status} As it is\r\n{lines}{length.get(self.framing, '')}\r\n"
        return self.announced + text.encode("latin-1")

    @property
    def wire(self) -> bytes:
        return self.head + (self._chunked() if self.framing == "chunked" else self.body)

    def _chunked(self) -> bytes:
        wire, rest = b"", self.body
        for size in (*self.chunks, len(self.body)):
            chunk, rest = rest[:size], rest[size:]
            if chunk:
                wire += b"%x;n=%d\r\n%b\r\n" % (len(chunk), size, chunk)
        return wire + b"0\r\nX-Trailer: 1\r\n\r\n"


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9!#$%&'*+.^_`|~-]{0,12}", fullmatch=True).map(
    lambda name: f"X-{name}"
)
VALUES = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20
)
RESPONSES = st.builds(
    Sent,
    status=st.integers(200, 599).filter(lambda status: status not in (204, 304)),
    headers=st.lists(st.tuples(NAMES, VALUES), max_size=5, unique_by=lambda one: one[0].lower()).map(tuple),
    body=st.binary(max_size=300),
    framing=st.sampled_from(["length", "chunked", "close"]),
    chunks=st.lists(st.integers(1, 100), max_size=8).map(tuple),
    announced=st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\n"]),
)
CUTS = st.lists(st.tuples(st.integers(0, 800), st.booleans()), max_size=20)
"""Where the bytes are cut, and whether their reader gets a turn there."""


async def received(pieces: Sequence[tuple[bytes, bool]]) -> tuple[int, dict[str, str], bytes, bool]:
    """Status, headers and body of what arrives in these pieces, then ends, and whether the connection is left
    for another request. Raises TransportError."""
    client = HttpTransport("http://unused", {}, connect=5.0, gap=5.0)
    connection, wire = Connection(Deadlines(), lambda _: None), Wire()
    connection.connection_made(wire)

    async def read() -> tuple[int, dict[str, str], bytes]:
        await connection.send_request(b"head", b"", 5.0, asyncio.get_running_loop().time() + 5.0)
        response = HttpResponse(connection, 5.0, MAX_BODY, client.release)
        return response.status, dict(response.headers), await response.read()

    reading = asyncio.ensure_future(read())
    await asyncio.sleep(0)
    for piece, turn in pieces:
        if piece and not wire.aborted:
            connection.data_received(piece)
        if turn:
            await asyncio.sleep(0)
    left = connection.is_reusable
    connection.eof_received()
    connection.connection_lost(None)
    return *(await reading), left


def cut(data: bytes, cuts: list[tuple[int, bool]]) -> list[tuple[bytes, bool]]:
    places = sorted({(min(place, len(data)), turn) for place, turn in cuts})
    starts = [0, *(place for place, _ in places)]
    ends = [*places, (len(data), True)]
    return [(data[start:end], turn) for start, (end, turn) in zip(starts, ends, strict=True)]


@given(RESPONSES, CUTS)
async def test_a_response_arrives_as_it_was_sent_however_its_bytes_are_cut(
    sent: Sent, cuts: list[tuple[int, bool]]
):
    status, headers, body, left = await received(cut(sent.wire, cuts))
    assert (status, body, left) == (sent.status, sent.body, sent.framing != "close")
    assert {(name, value) for name, value in headers.items() if name.startswith("x-")} == {
        (name.lower(), value) for name, value in sent.headers
    }


async def broken_or(pieces: Sequence[tuple[bytes, bool]]) -> tuple[TransportError | None, int, bytes]:
    """How it broke, or the status and the body of what arrived."""
    try:
        status, _, body, _ = await received(pieces)
    except TransportError as broken:
        return broken, 0, b""
    return None, status, body


@given(RESPONSES, CUTS, st.data())
async def test_a_response_that_is_cut_short_is_broken_or_one_that_its_end_ends(
    sent: Sent, cuts: list[tuple[int, bool]], data: st.DataObject
):
    end = data.draw(st.integers(0, len(sent.wire) - 1))
    broken, status, body = await broken_or(cut(sent.wire[:end], cuts))
    if sent.framing == "close" and end >= len(sent.head):
        assert (broken, status, body) == (None, sent.status, sent.body[: end - len(sent.head)])
    else:
        assert broken is not None
        assert broken.why == "lost"
        assert not (broken.before_response and end)


@given(st.binary(max_size=400), CUTS)
async def test_no_bytes_do_more_than_break_the_response(data: bytes, cuts: list[tuple[int, bool]]):
    for begin in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        broken, status, _ = await broken_or(cut(begin + data, cuts))
        assert broken.why == "lost" if broken else 200 <= status <= 999


async def test_a_body_that_nobody_reads_is_not_read_from_the_network():
    connection, wire = Connection(Deadlines(), lambda _: None), Wire()
    connection.connection_made(wire)
    asking = asyncio.ensure_future(
        connection.send_request(b"", b"", 5.0, asyncio.get_running_loop().time() + 5.0)
    )
    await asyncio.sleep(0)
    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\n")
    await asking
    for _ in range(2):
        arrived = 0
        while wire.reading:
            connection.data_received(b"x" * 1000)
            arrived += 1000
        assert HIGH_WATER_BYTES < arrived + 1000 < HIGH_WATER_BYTES + 3000
        assert connection.take_body() == b"x" * arrived
        assert wire.reading
    connection.connection_lost(None)


async def test_a_closed_connection_is_freed_without_a_collection():
    connection, wire = Connection(Deadlines(), lambda _: None), Wire()
    connection.connection_made(wire)
    connection.close()
    connection.connection_lost(None)
    left = weakref.ref(connection)
    del connection
    assert left() is None
