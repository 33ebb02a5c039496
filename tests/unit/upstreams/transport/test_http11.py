"""Any response that RFC 9112 allows arrives as it was sent, and what breaks off is never taken for whole."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.raw_server import Answers, listening
from support.waiting import soon

from gateway.upstreams.transport.http_client import HttpTransport
from gateway.upstreams.transport.transport import Garbage, Response, TransportError


@asynccontextmanager
async def asking(server: Answers, **changes: Any) -> AsyncIterator[Callable[[], Any]]:
    """A function that posts to the server."""
    async with listening(server.serve) as port:
        url = f"http://127.0.0.1:{port}/v1/chat"
        client = HttpTransport(url, {}, **{"connect": 5.0, "gap": 5.0} | changes)

        async def ask() -> Response:
            return await client.post(url, b"{}", 5.0)

        yield ask
        await client.close()


async def whole(response: Response) -> bytes:
    try:
        return await response.read()
    finally:
        response.close()


async def streamed(response: Response) -> None:
    while await response.next():
        pass


def plain(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


def chunked(*chunks: bytes, headers: bytes = b"", trailers: bytes = b"") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + headers + b"\r\n"
    return (
        head + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks) + b"0\r\n" + trailers + b"\r\n"
    )


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (plain(b"cold"), 200, b"cold"),
        (plain(b""), 200, b""),
        (chunked(b"co", b"l", b"d"), 200, b"cold"),
        (chunked(b"cold", trailers=b"X-Sum: 1\r\nRetry-After: 9\r\n"), 200, b"cold"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n4;a=b\r\ncold\r\n0\r\n\r\n", 200, b"cold"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4  \r\ncold\r\n0\r\n\r\n", 200, b"cold"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", 304, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + plain(b"cold"), 200, b"cold"),
        (b"HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n\r\n" + plain(b"cold"), 200, b"cold"),
        (plain(b"cold", b"X-Folded: a\r\n b"), 200, b"cold"),
        (b"HTTP/1.1 200\nContent-Length: 4\n\ncold", 200, b"cold"),
        (b"\r\n" + plain(b"no", status=b"529 Busy"), 529, b"no"),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\ncold", 200, b"cold"),
    ],
)
async def test_a_response_that_says_its_end_leaves_the_connection_for_the_next(
    answer: bytes, status: int, body: bytes
):
    server = Answers(answer, plain(b"next"))
    async with asking(server) as ask:
        response = await ask()
        assert (response.status, await whole(response)) == (status, body)
        assert await whole(await ask()) == b"next"
        assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        plain(b"cold", b"Connection: close"),
        chunked(b"cold", headers=b"Connection: Close\r\n"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\ncold",
        plain(b"cold") + plain(b"unasked"),
        plain(b"cold") + b"H",
        plain(b"cold") + b"</html>",
    ],
    ids=["close", "chunked close", "HTTP/1.0", "two responses", "a byte too many", "garbage behind"],
)
async def test_a_connection_that_cannot_be_used_again_is_closed(answer: bytes):
    server, following = Answers(answer), Answers(plain(b"next"))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (following if server.connections else server).serve(reader, writer)

    async with listening(serve) as port:
        url = f"http://127.0.0.1:{port}/"
        client = HttpTransport(url, {}, connect=5.0, gap=5.0)
        assert await whole(await client.post(url, b"{}", 5.0)) == b"cold"
        assert await whole(await client.post(url, b"{}", 5.0)) == b"next"
        await soon(server.gone.wait())
        await client.close()


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\nX: y\r\n\r\n"])
async def test_a_body_without_a_length_ends_with_its_connection(head: bytes):
    async with asking(Answers(head + b"cold", closes=True)) as ask:
        response = await ask()
        assert await response.read() == b"cold"
        assert await response.next() == b""
        response.close()


@pytest.mark.parametrize(
    ("answer", "fresh"),
    [(b"", True), (b"HTTP/1.1 200 OK\r\nContent-", False), (b"HTTP/1.1 100 Continue\r\n\r\n", False)],
)
async def test_a_head_that_breaks_off_is_lost(answer: bytes, fresh: bool):
    async with asking(Answers(answer, closes=True)) as ask:
        with pytest.raises(TransportError) as lost:
            await ask()
        assert (lost.value.why, lost.value.before_response) == ("lost", fresh)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"<html>no</html>",
        b"HTTP/1.1 200 OK\r\nNo colon\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2**17,
        b"HTTP/1.1 200 OK\r\n" + b"X: %b\r\n" % (b"x" * 100) * 1000 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
    ],
    ids=lambda answer: answer[:40].decode(),
)
async def test_what_is_no_response_is_lost_and_not_waited_for(answer: bytes):
    server = Answers(answer)
    async with asking(server) as ask:
        with pytest.raises(TransportError) as lost:
            await ask()
        assert (lost.value.why, lost.value.before_response) == ("lost", False)
        await soon(server.gone.wait())


@pytest.mark.parametrize(
    "answer",
    [
        plain(b"cold")[:-1],
        chunked(b"cold")[:-1],
        chunked(b"cold")[:-7],
        chunked(b"cold")[:-5] + b"zz\r\n\r\n",
        chunked(b"cold", trailers=b"X: " + b"x" * 2**17),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;" + b"x" * 2**17,
    ],
    ids=["length", "last chunk", "mid-chunk", "no chunk", "endless trailer", "endless extension"],
)
async def test_a_body_that_breaks_off_is_lost(answer: bytes):
    async with asking(Answers(answer, closes=True)) as ask:
        with pytest.raises(TransportError) as lost:
            await whole(await ask())
        assert (lost.value.why, lost.value.before_response) == ("lost", False)


async def test_headers_are_found_by_their_name_in_lower_case():
    answer = plain(b"", b"RETRY-AFTER:\t7 ", b"X-Two: a", b"x-two: b", b"Empty:", b"Latin: caf\xe9")
    async with asking(Answers(answer)) as ask:
        response = await ask()
        headers = dict(response.headers)
        del headers["content-length"]
        assert headers == {"retry-after": "7", "x-two": "a, b", "empty": "", "latin": "café"}
        response.close()


TEXT = b"It is cold. " * 100_000


def bare(data: bytes) -> bytes:
    compress = zlib.compressobj(wbits=-15)
    return compress.compress(data) + compress.flush()


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        (b"gzip", gzip.compress(TEXT)),
        (b"GZip", gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:])),
        (b"deflate", zlib.compress(TEXT)),
        (b"deflate", bare(TEXT)),
        (b"identity", TEXT),
    ],
    ids=["gzip", "two members", "zlib", "bare deflate", "identity"],
)
async def test_a_compressed_body_is_inflated(coding: bytes, data: bytes):
    header = b"Content-Encoding: " + coding
    pieces = [data[at : at + 100] for at in range(0, len(data), 100)]
    answers = [plain(data, header), chunked(*pieces, headers=header + b"\r\n"), plain(b"", header)]
    async with asking(Answers(*answers)) as ask:
        for expected in (TEXT, TEXT, b""):
            response = await ask()
            assert await response.read() == expected
            assert await response.next() == b""
            response.close()


@pytest.mark.parametrize("data", [gzip.compress(TEXT)[:-9], b"no gzip at all", b"\x1f\x8bno gzip"])
async def test_a_compressed_body_that_is_not_whole_is_lost(data: bytes):
    async with asking(Answers(plain(data, b"Content-Encoding: gzip"))) as ask:
        with pytest.raises(TransportError) as lost:
            await whole(await ask())
        assert (lost.value.why, lost.value.before_response) == ("lost", False)


@pytest.mark.parametrize("size", [1000, 1001, 2**20])
async def test_a_body_over_the_limit_is_garbage_however_it_is_sent(size: int):
    body = bytes(size)
    packed, coding = gzip.compress(body), b"Content-Encoding: gzip"
    answers = (plain(body), chunked(body[:500], body[500:]), plain(packed, coding), body_until_the_end(body))
    for answer in answers:
        async with asking(Answers(answer, closes=True), limit=1000) as ask:
            if size > 1000:
                with pytest.raises(Garbage, match="over the limit of 1000 bytes"):
                    await whole(await ask())
            else:
                assert await whole(await ask()) == body


@pytest.mark.parametrize("how", ["plain", "gzip"])
async def test_a_stream_over_the_limit_is_garbage_too(how: str):
    pieces = [b"x" * 400] * 5
    packed = gzip.compress(b"".join(pieces))
    answer = chunked(*pieces) if how == "plain" else plain(packed, b"Content-Encoding: gzip")
    async with asking(Answers(answer), limit=1000) as ask:
        response = await ask()
        with pytest.raises(Garbage, match="over the limit of 1000 bytes"):
            await streamed(response)
        response.close()


@pytest.mark.parametrize("packed", [False, True])
async def test_a_reader_may_take_less_than_the_limit(packed: bool):
    body = bytes(2000)
    answer = plain(gzip.compress(body), b"Content-Encoding: gzip") if packed else plain(body)
    async with asking(Answers(answer, answer)) as ask:
        with pytest.raises(Garbage, match="over the limit of 1000 bytes"):
            await (await ask()).read(1000)
        assert await (await ask()).read(2000) == body


def body_until_the_end(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n\r\n" + body


async def test_a_bomb_is_inflated_only_as_it_is_read():
    async with asking(Answers(plain(gzip.compress(bytes(2**26)), b"Content-Encoding: gzip"))) as ask:
        response = await ask()
        total = 0
        while data := await response.next():
            assert len(data) <= 2**20
            total += len(data)
        assert total == 2**26
        response.close()
