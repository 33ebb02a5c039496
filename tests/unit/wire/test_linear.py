"""What arrives in pieces is put together in time linear in its size: four times the pieces take about four times the
CPU, where each piece that copies all before it would make that sixteen."""

import gzip
import time
from collections.abc import Awaitable, Callable, Mapping
from math import inf
from typing import Any

import orjson
import pytest
from test_fast_chunks import Nowhere

from gateway.api.request_body import read_body
from gateway.api.responses.events import ResponseEvents
from gateway.engine.attempt import Attempt
from gateway.engine.streams.passthrough import PassthroughStream
from gateway.engine.streams.watched import WatchedStream
from gateway.exchange.call import Call
from gateway.exchange.exchange import Exchange
from gateway.upstreams.transport.content_coding import decode_content
from gateway.wire.chunks.reasoning import ReasoningTracker
from gateway.wire.responses import assemble_response
from gateway.wire.sse import EventReader
from policies.schema.policy import Policy
from routers import router
from routers.cost import FREE
from routers.plan import Generate
from routers.strategies.direct import Direct
from routers.watch import ObservingWatch

PIECE = "x" * 4096
SMALL = b"x" * 64
POLICY = Policy(name="test", description="x", router=Direct(tier="slm"))


class Arrived:
    """A response that is read part by part."""

    status = 200
    headers: Mapping[str, str] = {}

    def __init__(self, *parts: bytes) -> None:
        self._left = iter(parts)

    async def read(self, limit: int = 0) -> bytes:
        return b"".join(self._left)

    async def next(self, gap: float | None = None) -> bytes:
        return next(self._left, b"")

    def close(self) -> None:
        pass


def event(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "finish_reason": finish, "delta": delta}]}


def encoded(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return b"data: " + orjson.dumps(event(delta, finish)) + b"\n\n"


def call_delta(index: int, arguments: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"name": "f", "arguments": arguments}}]}


def exchange_and_attempt() -> tuple[Exchange, Attempt]:
    request = router.Request(stream=True)
    exchange = Exchange("chat", "chat", POLICY, {"messages": []}, b"", request, None)
    call = Call(Generate("slm"), "slm", "small", "small", FREE, 0.0, 0)
    return exchange, Attempt(None, call, None, is_last=True)  # type: ignore[arg-type]


async def request_body(pieces: int) -> None:
    left = 16 * pieces

    async def receive() -> dict[str, Any]:
        nonlocal left
        left -= 1
        return {"type": "http.request", "body": SMALL, "more_body": left > 0}

    scope = {"headers": [(b"content-type", b"application/json")]}
    assert len(await read_body(scope, receive, 10**9)) == 16 * pieces * len(SMALL)


async def one_event(pieces: int) -> None:
    reader = EventReader()
    for _ in range(16 * pieces):
        assert reader.feed(SMALL) == []
    assert len(reader.read_blocks(b"\n\n")[0]) == 16 * pieces * len(SMALL)


async def events_that_end_within_pieces(pieces: int) -> None:
    reader = EventReader()
    piece = b"\ndata: 1\n\ndata: 2\n"
    count = sum(len(reader.feed(piece)) for _ in range(16 * pieces))
    assert count >= 16 * pieces


async def chunks_of_text(pieces: int) -> None:
    (choice,) = assemble_response((event({"content": PIECE}) for _ in range(pieces)), "chat")["choices"]
    assert len(choice["message"]["content"]) == pieces * len(PIECE)


async def chunks_of_completions(pieces: int) -> None:
    (choice,) = assemble_response(({"choices": [{"text": PIECE}]} for _ in range(pieces)), "completions")[
        "choices"
    ]
    assert len(choice["text"]) == pieces * len(PIECE)


async def chunks_of_arguments(pieces: int) -> None:
    (choice,) = assemble_response((event(call_delta(0, PIECE)) for _ in range(pieces)), "chat")["choices"]
    assert len(choice["message"]["tool_calls"][0]["function"]["arguments"]) == pieces * len(PIECE)


async def chunks_of_logprobs(pieces: int) -> None:
    entries = [{"token": "x"}] * 500
    chunks = ({"choices": [{"delta": {}, "logprobs": {"content": entries}}]} for _ in range(pieces))
    (choice,) = assemble_response(chunks, "chat")["choices"]
    assert len(choice["logprobs"]["content"]) == pieces * len(entries)


async def followed(*parts: bytes) -> Any:
    return await WatchedStream(*exchange_and_attempt(), Nowhere(), ObservingWatch()).read(Arrived(*parts))


async def followed_arguments(pieces: int) -> None:
    draft = await followed(*[encoded(call_delta(0, PIECE))] * pieces, encoded({}, "tool_calls"))
    assert len(draft.tool_calls[0].arguments) == pieces * len(PIECE)


async def followed_refusal(pieces: int) -> None:
    await followed(*[encoded({"refusal": PIECE})] * pieces, encoded({}, "stop"))


async def relayed_silence(pieces: int) -> None:
    silent = [encoded({"role": "assistant"}) + b": " + PIECE.encode() + b"\n\n"] * pieces
    await PassthroughStream(*exchange_and_attempt(), Nowhere()).read(Arrived(*silent, encoded({}, "stop")))


async def half_tags(pieces: int) -> None:
    halves = [encoded({"content": "<"})] * pieces
    draft = await followed(*halves, encoded({}, "stop"))
    assert draft.text == "<" * pieces


async def half_tags_within_tokens(pieces: int) -> None:
    tags = [encoded({"content": piece}) for piece in ("nk></thi", "nk><thi")] * (pieces // 2)
    draft = await followed(encoded({"content": "<thi"}), *tags, encoded({}, "stop"))
    assert len(draft.tokens) == 2 * (pieces // 2) + 1


async def tokens_without_text_after_half_a_tag(pieces: int) -> None:
    tracker = ReasoningTracker()
    marks = tracker.mark_tokens(["<"])
    for _ in range(16 * pieces):
        marks += tracker.mark_tokens([""])
    assert len(marks + tracker.mark_tokens([], is_last=True)) == 16 * pieces + 1


async def finishes(pieces: int) -> None:
    """Each chunk finishes the answer, and the next one goes on."""
    draft = await followed(*[encoded({"content": PIECE}, "stop")] * pieces)
    assert len(draft.text) == pieces * len(PIECE)


async def json_in_pieces(pieces: int) -> None:
    reader = EventReader()
    for piece in [b"[", *[b"1,\n\n"] * (16 * pieces), b"1]"]:
        assert reader.feed(piece) == []
    assert len(reader.flush()) > 16 * pieces


async def calls_in_turns(pieces: int) -> None:
    events = ResponseEvents({"model": "m", "input": "x"}, "resp_1", 0)
    for _ in range(pieces):
        for index in (0, 1):
            events.chunk(event(call_delta(index, PIECE)))
    assert len(events.finish()) > 0


async def members(pieces: int) -> None:
    response = decode_content(Arrived(gzip.compress(b"x") * (pieces * 16)), b"gzip", 10**9)
    assert len(await response.read()) == pieces * 16


WORK = (
    request_body,
    one_event,
    events_that_end_within_pieces,
    chunks_of_text,
    chunks_of_completions,
    chunks_of_arguments,
    chunks_of_logprobs,
    followed_arguments,
    followed_refusal,
    relayed_silence,
    half_tags,
    half_tags_within_tokens,
    tokens_without_text_after_half_a_tag,
    finishes,
    json_in_pieces,
    calls_in_turns,
    members,
)


async def cpu(work: Callable[[int], Awaitable[None]], pieces: int) -> float:
    """Seconds of this process."""
    began = time.process_time()
    await work(pieces)
    return time.process_time() - began


@pytest.mark.parametrize("work", WORK, ids=lambda work: work.__name__)
async def test_four_times_the_pieces_take_about_four_times_the_work(work: Callable[[int], Awaitable[None]]):
    """The least times of at least three tries are compared: a busy machine adds to single ones."""
    await work(10)
    few, many = inf, inf
    for tries in range(1, 11):
        few, many = min(few, await cpu(work, 500)), min(many, await cpu(work, 2000))
        if tries >= 3 and many < 8 * few:
            return
    pytest.fail(f"four times the pieces take {many / few:.1f} times the work")
