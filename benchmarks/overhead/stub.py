"""A fast OpenAI-shaped upstream that answers from prepared bytes.

`python -m benchmarks.overhead.stub --port 9000 --pace-ms 2`

`GET /stats` counts what was asked, so that a benchmark can tell what a gateway really sent.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from dataclasses import asdict, dataclass
from typing import cast

import uvloop

from benchmarks.overhead.replies import Replies, build, json_reply

EVENTS_PER_WRITE = 25
"""Unpaced, this many events leave in one write."""

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream"\s*:\s*true')
_LOGPROBS = re.compile(rb'"logprobs"\s*:\s*true')
_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
_NOT_FOUND = json_reply({"error": {"message": "not found", "type": "not_found"}}, b"404 Not Found")
_OK = json_reply({"status": "ok"})
_MODELS = json_reply(
    {
        "object": "list",
        "data": [
            {"id": name, "object": "model", "created": 0, "owned_by": "stub"}
            for name in ("SmolLM2-135M-Instruct", "stub-large")
        ],
    }
)


@dataclass
class Stats:
    """What the stub was asked for."""

    requests: int = 0
    streams: int = 0
    with_logprobs: int = 0


@dataclass(frozen=True)
class Settings:
    """What all connections share."""

    replies: Replies
    pace: float
    stats: Stats


class Stub(asyncio.Protocol):
    """One connection: HTTP/1.1 with keep-alive, without pipelining and without chunked requests."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.buffer = b""
        self.transport: asyncio.Transport | None = None
        self.timer: asyncio.Handle | None = None
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.timer is not None:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end]
        length = _LENGTH.search(head)
        size = end + 4 + (int(length.group(1)) if length else 0)
        if len(self.buffer) < size:
            return
        body, self.buffer = self.buffer[end + 4 : size], self.buffer[size:]
        self.answer(head, body)

    def answer(self, head: bytes, body: bytes) -> None:
        """Reply to one whole request."""
        assert self.transport is not None
        if not head.startswith(b"POST /v1/chat/completions "):
            self.transport.write(self.other(head.split(b" ", 2)[1]))
            return
        stats, replies = self.settings.stats, self.settings.replies
        logprobs = _LOGPROBS.search(body) is not None
        stats.requests += 1
        stats.with_logprobs += logprobs
        if _STREAM.search(body) is None:
            self.transport.write(replies.plain[logprobs])
            return
        stats.streams += 1
        events = replies.streams[logprobs, _USAGE.search(body) is not None]
        if self.settings.pace:
            self.paced(events, 0, self.loop.time())
        else:
            self.burst(events, 0)

    def other(self, path: bytes) -> bytes:
        """Everything but a completion."""
        if path == b"/stats":
            return json_reply(asdict(self.settings.stats))
        return {b"/v1/models": _MODELS, b"/health": _OK}.get(path, _NOT_FOUND)

    def burst(self, events: list[bytes], start: int) -> None:
        """Some events in one write, the next ones in the loop's next turn."""
        if self.transport is None:
            return
        stop = start + EVENTS_PER_WRITE
        self.transport.write(b"".join(events[start:stop]))
        if stop < len(events):
            self.timer = self.loop.call_soon(self.burst, events, stop)

    def paced(self, events: list[bytes], number: int, began: float) -> None:
        """One event now, the next at its time."""
        if self.transport is None:
            return
        self.transport.write(events[number])
        if number + 1 < len(events):
            when = began + (number + 1) * self.settings.pace
            self.timer = self.loop.call_at(when, self.paced, events, number + 1, began)


async def serve(port: int, events: int, pace_ms: float) -> None:
    """Serve until stopped."""
    settings = Settings(build(events), pace_ms / 1000, Stats())
    server = await asyncio.get_running_loop().create_server(
        lambda: Stub(settings), "127.0.0.1", port, backlog=1024
    )
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--events", type=int, default=100, help="tokens in a reply")
    parser.add_argument("--pace-ms", type=float, default=0, help="time between two events of a stream")
    args = parser.parse_args()
    uvloop.run(serve(args.port, args.events, args.pace_ms))


if __name__ == "__main__":
    main()
