"""What an upstream may send: a response without end is a clear failure, and costs no memory."""

import asyncio
import resource
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from support.gateways import ONCE, Gateway, StartGateway, settings_of
from support.raw_server import listening, request_of

from gateway.upstreams.transport.transport import MAX_ANSWER, MAX_BODY, MAX_ERROR
from gateway.wire.sse import MAX_EVENT

MIB = 2**20
BEGINNING = b'{"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"'
ASKED = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}


def bomb() -> Iterator[bytes]:
    """An answer of 128 MiB, in 128 KiB."""
    packed = zlib.compressobj(wbits=31)
    piece = b"x" * MIB
    yield packed.compress(BEGINNING)
    for _ in range(128):
        yield packed.compress(piece)
    yield packed.compress(b'"}}]}') + packed.flush()


def spaces(first: bytes = b"") -> Iterator[bytes]:
    yield first
    while True:
        yield b" " * MIB


def events() -> Iterator[bytes]:
    while True:
        yield (
            b'data: {"choices":[{"index":0,"finish_reason":null,"delta":{"content":"'
            + b"x" * MIB
            + b'"}}]}\n\n'
        )


@asynccontextmanager
async def sending(start: StartGateway, head: bytes, parts: Iterable[bytes]) -> AsyncIterator[Gateway]:
    """A gateway whose only upstream sends these parts, and ends its response with its connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 " + head + b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()

    async with listening(serve) as port:
        server = {"name": "s", "tier": "slm", "url": f"http://127.0.0.1:{port}/v1", "model": "small"}
        yield await start(settings_of(server | {"limits": ONCE, "probe": 0}))


@pytest.mark.parametrize(
    ("head", "parts", "more", "code", "limit", "mib"),
    [
        (b"200 OK", spaces(), {}, "upstream_garbage", MAX_ANSWER, 200),
        (b"200 OK\r\nContent-Encoding: gzip", bomb(), {}, "upstream_garbage", MAX_ANSWER, 200),
        (b"500 Oh", spaces(), {}, "upstream_error", MAX_ERROR, 20),
        (b"400 No", spaces(), {}, "invalid_value", MAX_ERROR, 20),
        (b"200 OK", spaces(b"data: "), {"stream": True}, "upstream_garbage", MAX_EVENT, 80),
        (b"200 OK", spaces(b"data: x\n" * 9), {"stream": True}, "upstream_garbage", MAX_EVENT, 80),
        (b"200 OK", spaces(), {"model": "embed"}, "upstream_garbage", MAX_BODY, 800),
    ],
    ids=["an answer", "a bomb", "an error", "a refusal", "an event", "lines", "embeddings"],
)
async def test_a_response_without_end_is_a_clear_failure(
    start: StartGateway,
    head: bytes,
    parts: Iterator[bytes],
    more: dict[str, Any],
    code: str,
    limit: int,
    mib: int,
):
    async with sending(start, head, parts) as gateway:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if more.get("model") == "embed":
            _, _, raw = await gateway.post("/embeddings", {"model": "small", "input": "Hi"})
        else:
            _, _, raw = await gateway.post("/chat/completions", ASKED | more)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    error = orjson.loads(raw)["error"]
    assert error["code"] == code
    assert f"over the limit of {limit} bytes" in error["message"]
    assert grown < mib


async def test_a_stream_without_end_is_ended_by_an_error(start: StartGateway):
    async with sending(start, b"200 OK", events()) as gateway:
        url = f"{gateway.url}/chat/completions"
        size, last = 0, b""
        async with gateway.http.post(url, json=ASKED | {"stream": True}) as response:
            async for data in response.content.iter_any():
                size, last = size + len(data), (last + data)[-1000:]
        *_, event, rest = last.split(b"\n\n")
    assert (size <= MAX_BODY + 4096, rest) == (True, b"")
    assert (
        f"over the limit of {MAX_BODY} bytes"
        in orjson.loads(event.removeprefix(b"data: "))["error"]["message"]
    )


async def test_a_plain_answer_that_nests_too_deeply_is_garbage(start: StartGateway):
    deep = BEGINNING + b'","x":' + b"[" * 300 + b"]" * 300 + b"}}]}"
    async with sending(start, b"200 OK", [deep]) as gateway:
        for path, body in (("/chat/completions", ASKED), ("/responses", {"model": "small", "input": "Hi"})):
            status, _, raw = await gateway.post(path, body)
            error = orjson.loads(raw)["error"]
            assert (status, error["code"]) == (502, "upstream_garbage")
            assert "nested too deeply" in error["message"]
