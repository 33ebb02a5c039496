"""When connections are made, kept and given up, and what they do with what is large, slow or no longer wanted."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.raw_server import Answers, Serve, listening, request_of
from support.waiting import PATIENCE

from gateway.upstreams.transport.connection import HIGH_WATER_BYTES
from gateway.upstreams.transport.http_client import HttpTransport
from gateway.upstreams.transport.transport import Response, TransportError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BEGUN = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nco"
ONE_READ = 2**18
"""Bytes that asyncio and uvloop read at once, at most."""

Ask = Callable[..., Awaitable[Response]]


@asynccontextmanager
async def client_of(
    serve: Serve, headers: dict[str, str] | None = None, **changes: Any
) -> AsyncIterator[Ask]:
    """Posts a body to the server; the response's head may take `wait` seconds."""
    async with listening(serve) as port, asyncio.timeout(PATIENCE):
        url = f"http://127.0.0.1:{port}/v1/chat"
        client = HttpTransport(url, headers or {}, **{"connect": 5.0, "gap": 60.0} | changes)

        async def ask(body: bytes = b"{}", wait: float = 60.0) -> Response:
            return await client.post(url, body, wait)

        yield ask
        await client.close()


async def done(response: Response) -> bytes:
    body = await response.read()
    response.close()
    return body


async def test_a_request_says_its_length_and_carries_the_headers_it_was_given():
    server = Answers(OK, OK)
    async with client_of(server.serve, {"Authorization": "Bearer sk-1", "X-Note": "as is"}) as ask:
        await done(await ask(b'{"a":1}'))
        await done(await ask(b""))
    lines = [head.split(b"\r\n") for head in server.heads]
    assert lines[0][0] == b"POST /v1/chat HTTP/1.1"
    assert {b"Authorization: Bearer sk-1", b"X-Note: as is", b"Content-Length: 7"} < set(lines[0])
    assert b"Content-Length: 0" in lines[1]
    assert server.bodies == [b'{"a":1}', b""]
    assert server.connections == 1


async def test_a_get_has_no_body():
    server = Answers(OK)
    async with listening(server.serve) as port:
        client = HttpTransport(f"http://127.0.0.1:{port}", {}, connect=5.0, gap=5.0)
        response = await client.get(f"http://127.0.0.1:{port}/health", 5.0)
        assert (response.status, await done(response)) == (200, b"ok")
        await client.close()
    assert server.heads[0].startswith(b"GET /health HTTP/1.1\r\n")
    assert b"ength" not in server.heads[0]


async def test_the_connection_used_last_is_used_next():
    """So the others, which a burst has left, grow old and go."""
    used: list[int] = []
    arrived, go = asyncio.Semaphore(0), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(used)
        while True:
            await request_of(reader)
            used.append(number)
            arrived.release()
            await go.wait()
            writer.write(OK)

    async with client_of(serve) as ask:
        asked = []
        for _ in range(3):
            asked.append(asyncio.ensure_future(ask()))
            await arrived.acquire()
        go.set()
        responses = await asyncio.gather(*asked)
        for number in (2, 0, 1):
            await done(responses[number])
        for _ in range(3):
            await done(await ask())
    assert used == [0, 1, 2, 1, 1, 1]


async def test_a_connection_is_not_kept_for_longer_than_it_may_be_idle():
    server = Answers(OK)
    async with client_of(server.serve, idle=0.05) as ask:
        await done(await ask())
        await server.gone.wait()
        server.answers.append(OK)
        assert await done(await ask()) == b"ok"
    assert server.connections == 2


@pytest.mark.parametrize("keep_alive", [True, False])
async def test_without_keep_alive_each_request_has_its_own_connection_and_says_so(keep_alive: bool):
    server = Answers(OK, OK, OK)
    async with client_of(server.serve, keep_alive=keep_alive) as ask:
        for _ in range(3):
            assert await done(await ask()) == b"ok"
    assert server.connections == (1 if keep_alive else 3)
    assert all((b"\r\nConnection: close\r\n" in head) is not keep_alive for head in server.heads)


async def test_a_response_that_was_read_by_nobody_leaves_nothing_behind():
    async with client_of(Answers(OK, OK.replace(b"ok", b"no")).serve) as ask:
        (await ask()).close()
        assert await done(await ask()) == b"no"


async def test_a_response_that_is_closed_twice_gives_its_connection_back_once():
    server = Answers(OK, OK, OK)
    async with client_of(server.serve) as ask:
        first = await ask()
        first.close()
        second = await ask()
        first.close()
        third = await ask()
        assert (await done(second), await done(third), server.connections) == (b"ok", b"ok", 2)


async def test_a_request_that_is_cancelled_leaves_its_server_at_once():
    server = Answers()
    async with client_of(server.serve) as ask:
        asked = asyncio.ensure_future(ask())
        await server.arrived.acquire()
        asked.cancel()
        await server.gone.wait()
        with pytest.raises(asyncio.CancelledError):
            await asked


async def test_a_response_that_is_closed_before_its_end_leaves_its_server_at_once():
    server = Answers(BEGUN)
    async with client_of(server.serve) as ask:
        response = await ask()
        assert await response.next() == b"co"
        response.close()
        await server.gone.wait()


async def test_a_client_that_closes_breaks_what_is_under_way():
    server = Answers()
    async with listening(server.serve) as port:
        client = HttpTransport(f"http://127.0.0.1:{port}", {}, connect=5.0, gap=5.0)
        asked = asyncio.ensure_future(client.post(f"http://127.0.0.1:{port}/", b"", 5.0))
        await server.arrived.acquire()
        await client.close()
        with pytest.raises(TransportError, match="closed by us"):
            await asked


async def test_a_head_that_does_not_come_is_a_timeout():
    server = Answers()
    async with client_of(server.serve) as ask:
        with pytest.raises(TransportError, match=r"no response within 0\.05 s") as late:
            await ask(wait=0.05)
        assert late.value.why == "timeout"
        await server.gone.wait()


@pytest.mark.parametrize(("usual", "own"), [(0.05, None), (60.0, 0.05)])
async def test_a_body_that_stops_coming_is_a_timeout(usual: float, own: float | None):
    server = Answers(BEGUN)
    async with client_of(server.serve, gap=usual) as ask:
        response = await ask()
        assert await response.next(own) == b"co"
        with pytest.raises(TransportError, match="stopped coming") as late:
            await response.next(own)
        assert (late.value.why, late.value.before_response) == ("timeout", False)
        response.close()
        await server.gone.wait()


async def test_time_is_counted_only_while_somebody_reads():
    begin, go_on = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, body = await request_of(reader)
        if body == b"unanswered":
            await reader.read()
        writer.write(BEGUN[:-2])
        await begin.wait()
        writer.write(b"co")
        await go_on.wait()
        writer.write(b"ld")

    async with client_of(serve, gap=0.5) as ask:
        response = await ask()
        reading = asyncio.ensure_future(response.next())
        await asyncio.sleep(0)
        begin.set()
        assert await reading == b"co"
        with pytest.raises(TransportError):
            await ask(b"unanswered", wait=1.0)  # a while passes
        go_on.set()
        assert await response.next() == b"ld"
        assert await response.next() == b""
        response.close()


async def test_a_large_body_is_sent_as_its_server_takes_it():
    """And holds up nobody else."""
    body = os.urandom(20 * 2**20)
    go = asyncio.Event()
    taken: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
            if size > 2:
                await go.wait()
            taken.append(await reader.readexactly(size))
            writer.write(OK)

    async with client_of(serve) as ask:
        large = asyncio.ensure_future(ask(body))
        for _ in range(3):
            assert await done(await ask()) == b"ok"
        go.set()
        assert await done(await large) == b"ok"
    assert taken[-1] == body


async def test_a_server_that_refuses_a_large_body_is_not_sent_the_rest():
    gone = asyncio.Event()
    refusal = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\ntoo"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refusal)
        taken = 0
        while data := await reader.read(2**16):
            taken += len(data)
        assert taken < 50 * 2**20
        gone.set()

    async with client_of(serve) as ask:
        response = await ask(bytes(50 * 2**20))
        assert (response.status, await response.read()) == (413, b"too")
        response.close()
        await gone.wait()


async def test_a_large_body_whose_server_goes_is_lost():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async with client_of(serve) as ask:
        with pytest.raises(TransportError) as lost:
            await ask(bytes(50 * 2**20))
        assert (lost.value.why, lost.value.before_response) == ("lost", True)


@pytest.mark.parametrize("framing", ["Content-Length: 33554432", "X-Until: close"])
async def test_a_large_response_comes_as_it_is_read(framing: str):
    body = os.urandom(2**25)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode() + body)
        await writer.drain()

    async with client_of(serve) as ask:
        response = await ask()
        parts = []
        while data := await response.next():
            assert len(data) <= HIGH_WATER_BYTES + ONE_READ
            parts.append(data)
            await asyncio.sleep(0)  # the server may go on meanwhile
        assert b"".join(parts) == body
        response.close()
