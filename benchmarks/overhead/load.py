"""The load generator: a closed loop of keep-alive connections that checks each response to its end."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from statistics import quantiles
from typing import cast

import httptools

from benchmarks.overhead.replies import LAST_TOKEN

_LAST = LAST_TOKEN.strip().encode()
_NUMBER = "00000000"
_TIMEOUT = 120.0


class BadResponse(Exception):
    """A response that is not 200 or not whole."""


@dataclass(frozen=True)
class Request:
    """A request's bytes around the one part that differs: a number of fixed width in the question."""

    before: bytes
    after: bytes
    stream: bool

    def numbered(self, number: int) -> bytes:
        return b"%s%08d%s" % (self.before, number, self.after)


def chat_request(model: str, *, stream: bool) -> Request:
    """A chat completion of two messages, with no log-probabilities asked for."""
    body = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant. Answer in a few plain sentences."},
            {"role": "user", "content": f"Question {_NUMBER}: how does a gateway choose between two models?"},
        ],
        "temperature": 0,
        "max_tokens": 256,
        "stream": stream,
    }
    data = json.dumps(body).encode()
    before, after = data.split(_NUMBER.encode())
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(data)
    )
    return Request(head + before, after, stream)


@dataclass(frozen=True)
class Result:
    """What a batch took, in seconds."""

    requests: int
    seconds: float
    p50: float
    p90: float
    p99: float

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


class Batch:
    """A number of requests, shared by all connections of a run."""

    def __init__(self, request: Request, total: int) -> None:
        self.request = request
        self.total = total
        self.sent = 0
        self.latencies: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self) -> bytes | None:
        """The next request, or nothing when all were sent."""
        if self.sent == self.total or self.done.done():
            return None
        self.sent += 1
        return self.request.numbered(self.sent)

    def record(self, latency: float) -> None:
        self.latencies.append(latency)
        if len(self.latencies) == self.total and not self.done.done():
            self.done.set_result(None)

    def fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(BadResponse(why))


class Connection(asyncio.Protocol):
    """One keep-alive connection: sends, waits for the whole response, sends again."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.transport: asyncio.Transport | None = None
        self.parser = httptools.HttpResponseParser(self)
        self.pieces: list[bytes] = []
        self.began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        self.batch.fail(f"connection lost: {exc}")

    def send(self) -> None:
        data = self.batch.take()
        if data is not None and self.transport is not None:
            self.pieces = []
            self.began = time.perf_counter()
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.batch.fail(f"not HTTP: {error}")

    def on_body(self, body: bytes) -> None:
        self.pieces.append(body)

    def on_message_complete(self) -> None:
        latency = time.perf_counter() - self.began
        status, body = self.parser.get_status_code(), b"".join(self.pieces)
        whole = _LAST in body and (not self.batch.request.stream or body.endswith(b"data: [DONE]\n\n"))
        if status != 200 or not whole:
            self.batch.fail(f"status {status}, {len(body)} bytes, ending {body[-200:]!r}")
            return
        self.batch.record(latency)
        self.send()


async def drive(port: int, request: Request, total: int, concurrency: int) -> Result:
    """Send `total` requests over `concurrency` connections; raise at the first bad response."""
    batch, loop = Batch(request, total), asyncio.get_running_loop()
    began = time.perf_counter()
    made = [
        await loop.create_connection(lambda: Connection(batch), "127.0.0.1", port)
        for _ in range(min(concurrency, total))
    ]
    try:
        await asyncio.wait_for(batch.done, _TIMEOUT)
        seconds = time.perf_counter() - began
    finally:
        for transport, _ in made:
            transport.abort()
    cuts = quantiles(batch.latencies, n=100, method="inclusive")
    return Result(total, seconds, cuts[49], cuts[89], cuts[98])
