"""Connections: slow, large and odd requests at the gateway's own listener."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.gateways import Gateway, StartGateway, settings_of, simple_policy, upstream
from support.scripted_server import Reply, Scripted
from support.strategy_requests import ASK
from support.waiting import soon

BODY = json.dumps(ASK).encode()
HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n" % len(BODY)
)
WHOLE = HEAD + b"\r\n" + BODY
KEEP_ALIVE_S = 5.0
"""Seconds after an answer for which uvicorn keeps a silent connection."""
QUICK = {"head_timeout": 0.1, "body_timeout": 0.1}


@pytest.fixture
async def quick(start: StartGateway, slm: Scripted) -> Gateway:
    """A gateway that waits a tenth of a second for slow requests, whose bodies may have 1000 bytes."""
    listen = QUICK | {"body_limit": 1000}
    return await start(settings_of(upstream(slm, "slm"), listen=listen), [simple_policy()])


@asynccontextmanager
async def connected(gateway: Gateway) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.root.rpartition(":")[2]))
    try:
        yield reader, writer
    finally:
        writer.close()


async def exchange_bytes(gateway: Gateway, *parts: bytes) -> bytes:
    """What comes back, until the gateway closes the connection."""
    async with connected(gateway) as (reader, writer):
        for part in parts:
            writer.write(part)
            await writer.drain()
        try:
            return await soon(reader.read())
        except ConnectionResetError:
            return b""


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def code_of(answer: bytes) -> str:
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"])


@pytest.mark.parametrize(
    "sent", [b"P", HEAD, HEAD + b"X-More: ", HEAD + b"\r\n", HEAD + b"\r\n" + BODY[:9]], ids=str
)
async def test_a_request_that_does_not_go_on_is_given_up(quick: Gateway, slm: Scripted, sent: bytes):
    answer = await exchange_bytes(quick, sent)
    assert (status_of(answer), code_of(answer)) == (408, "request_timeout")
    assert slm.requests == []


@pytest.mark.parametrize("sent", [b"", b"\r\n\r\n"], ids=str)
async def test_a_connection_without_a_request_is_closed(quick: Gateway, sent: bytes):
    assert await exchange_bytes(quick, sent) == b""


async def test_a_drip_of_bytes_does_not_keep_a_head_alive(quick: Gateway):
    async with connected(quick) as (reader, writer):
        answer = asyncio.ensure_future(reader.read())
        writer.write(HEAD + b"X-Drip: ")
        while not answer.done():
            writer.write(b"x")
            await asyncio.wait([answer], timeout=0.01)
        assert status_of(answer.result()) == 408


async def test_blank_lines_after_an_answer_do_not_keep_a_connection_alive(quick: Gateway, slm: Scripted):
    slm.says(Reply("Cold."))
    async with connected(quick) as (reader, writer):
        writer.write(WHOLE)
        await soon(reader.readuntil(b"Cold."))
        writer.write(b"\r\n")
        await soon(reader.read(), KEEP_ALIVE_S)


async def test_half_requests_by_the_hundred_shut_nobody_out(start: StartGateway, slm: Scripted):
    gateway = await start(settings_of(upstream(slm, "slm"), listen={"head_timeout": 2.0}), [simple_policy()])
    slm.says(Reply("Cold."))
    halves = [asyncio.ensure_future(exchange_bytes(gateway, HEAD)) for _ in range(300)]
    assert (await gateway.post("/chat/completions", ASK))[0] == 200
    assert {status_of(answer) for answer in await asyncio.gather(*halves)} == {408}


async def test_slow_but_steady_bodies_and_slow_answers_are_served(start: StartGateway, slm: Scripted):
    listen = {"head_timeout": 0.1, "body_timeout": 0.8}
    gateway = await start(settings_of(upstream(slm, "slm"), listen=listen), [simple_policy()])
    gate = asyncio.Event()
    slm.says(Reply("Cold.", gate=gate))
    step = -(-len(BODY) // 10)
    async with connected(gateway) as (reader, writer):
        writer.write(HEAD + b"\r\n")
        for at in range(0, len(BODY), step):
            assert status_of(await exchange_bytes(gateway, HEAD)) == 408  # a tenth of a second is over
            writer.write(BODY[at : at + step])
        await soon(slm.arrived.wait())
        writer.write(b"POST /v1")  # the next request's beginning waits as long as this one is answered
        for _ in range(2):
            assert status_of(await exchange_bytes(gateway, HEAD)) == 408
        gate.set()
        assert status_of(await soon(reader.readline())) == 200


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ([HEAD, *[b"X-Filler: %b\r\n" % (b"x" * 30_000)] * 4], 431, "head_too_large"),
        ([b"GET /" + b"x" * 30_000, *[b"x" * 30_000] * 4], 431, "head_too_large"),
        ([b"no HTTP at all\r\n\r\n"], 400, "invalid_http"),
        ([b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n"], 405, "method_not_allowed"),
        (
            [HEAD.replace(b"%d" % len(BODY), b"2000") + b"Connection: close\r\n\r\n" + b" " * 2000],
            413,
            "body_too_large",
        ),
    ],
    ids=["headers", "line", "garbage", "connect", "body"],
)
async def test_what_is_too_large_or_no_request_is_refused(
    quick: Gateway, parts: list[bytes], status: int, code: str
):
    answer = await exchange_bytes(quick, *parts)
    assert (status_of(answer), code_of(answer)) == (status, code)


async def test_a_body_without_end_is_cut_off(quick: Gateway):
    head = HEAD.replace(b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked")
    async with connected(quick) as (reader, writer):
        answer = asyncio.ensure_future(reader.readline())
        writer.write(head + b"\r\n")
        while not writer.is_closing():
            writer.write(b"400\r\n" + b" " * 1024 + b"\r\n")
            await asyncio.wait([answer], timeout=0.001)
        assert status_of(await soon(answer)) == 413


UPGRADES = {
    "java": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n",
    "websocket": b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n",
    "twice": b"Connection: Upgrade\r\nConnection: HTTP2-Settings\r\nUpgrade: h2c\r\n",
    "unknown": b"connection: upgrade\r\nupgrade: TLS/1.0\r\n",
}


@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES.keys())
async def test_an_upgrade_is_ignored_and_the_body_is_read(gateway: Gateway, slm: Scripted, upgrade: bytes):
    slm.says(Reply("Cold."))
    request = HEAD + upgrade + b"\r\n" + BODY
    async with connected(gateway) as (reader, writer):
        for cut in (0, 40, len(HEAD), -1, -len(BODY)):
            writer.write(request[:cut])
            await writer.drain()
            writer.write(request[cut:])
            head = await soon(reader.readuntil(b"\r\n\r\n"))
            assert status_of(head) == 200
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            assert b"Cold." in await soon(reader.readexactly(length))
    assert [request["messages"] for request in slm.requests] == [ASK["messages"]] * 5


async def test_an_upgrade_with_a_chunked_body_is_ignored_too(gateway: Gateway, slm: Scripted):
    slm.says(Reply("Cold."))
    head = HEAD.replace(b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked")
    request = head + UPGRADES["java"] + b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    async with connected(gateway) as (reader, writer):
        writer.write(request)
        assert status_of(await soon(reader.readline())) == 200
