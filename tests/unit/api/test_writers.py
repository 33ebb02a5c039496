"""Whatever is committed, in whichever pieces and by whomever: the client has one well-formed answer, or one error."""

import asyncio
import json
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder
from openai.types.chat import ChatCompletionChunk
from support.gateways import simple_policy

from gateway.api.writers import PlainReply, StreamReply
from gateway.errors import ApiError
from gateway.exchange.exchange import Exchange
from gateway.timers import Deadline, Deadlines
from gateway.wire.body_types import Endpoint
from routers.router import Request

Body = dict[str, Any]
Message = MutableMapping[str, Any]

PIECE = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6) | st.sampled_from(
    [" ", "\n", " a"]
)
USAGE: Body = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
LOST = ApiError(502, "upstream_lost", "it broke off")


class ByHand(Deadlines):
    """Time passes when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.time = lambda: 0.0

    def after(self, seconds: float, act: Callable[[], None], *, repeated: bool = False) -> Deadline:
        deadline = Deadline(self, seconds, act, repeated=repeated)
        self.pending.add(deadline)
        return deadline

    async def pass_by(self) -> None:
        for deadline in list(self.pending):
            deadline.fire()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@dataclass
class Writer:
    """What one model writes, in how many commits, and whether nobody parsed it."""

    name: str
    pieces: list[str]
    reads: list[int]
    raw: bool
    beats: list[bool]

    def chunks(self, endpoint: Endpoint, finish: str | None) -> list[Body]:
        found = (
            [self._chunk(endpoint, {"role": "assistant", "content": ""}, None)] if endpoint == "chat" else []
        )
        found += [self._chunk(endpoint, {"content": piece}, None) for piece in self.pieces]
        return found + ([self._chunk(endpoint, {}, finish)] if finish else [])

    def counted(self) -> Body:
        return self._whole() | {"choices": [], "usage": USAGE}

    def _chunk(self, endpoint: Endpoint, delta: Body, finish: str | None) -> Body:
        said: Body = {"delta": delta} if endpoint == "chat" else {"text": delta.get("content", "")}
        return self._whole() | {"choices": [{"index": 0, "finish_reason": finish, **said}]}

    def _whole(self) -> Body:
        return {"id": f"up-{self.name}", "created": 1, "model": self.name, "object": "chat.completion.chunk"}

    def commits(self, endpoint: Endpoint, finish: str | None) -> list[list[Body]]:
        """The chunks as they were read, several at a time."""
        left, found = self.chunks(endpoint, finish), []
        for count in [*self.reads, len(left)]:
            found.append(left[:count])
            left = left[count:]
        return [chunks for chunks in found if chunks]


@dataclass
class Play:
    endpoint: Endpoint
    writers: list[Writer]
    trims: bool
    wants_usage: bool
    usage: bool
    fails: bool
    beats: bool
    sent: list[Message] = field(default_factory=list)

    @property
    def text(self) -> str:
        first, *rest = ["".join(writer.pieces) for writer in self.writers] or [""]
        return first + "".join(text.lstrip() if self.trims else text for text in rest)

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def write(self, reply: StreamReply | PlainReply, time: ByHand) -> None:
        for place, writer in enumerate(self.writers):
            if place and self.trims:
                reply.trim()
            last = place == len(self.writers) - 1
            finish = "stop" if last and not self.fails else None
            commits = writer.commits(self.endpoint, finish)
            for number, chunks in enumerate(commits):
                if writer.beats[number % len(writer.beats)]:
                    await time.pass_by()
                if writer.raw and isinstance(reply, StreamReply):
                    await reply.raw(b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in chunks))
                else:
                    await reply.events(chunks)
        if self.beats:
            await time.pass_by()
        if self.fails:
            await reply.fail(LOST)
        else:
            await reply.finish(self.writers[-1].counted() if self.usage else None)
        reply.close()
        await time.pass_by()


@st.composite
def writers(draw: st.DrawFn, name: str, raw: bool) -> Writer:
    pieces = draw(st.lists(PIECE, min_size=1, max_size=6))
    reads = draw(st.lists(st.integers(1, 4), max_size=4))
    beats = draw(st.lists(st.booleans(), min_size=1, max_size=3))
    return Writer(name, pieces, reads, raw, beats)


@st.composite
def plays(draw: st.DrawFn) -> Play:
    """Of one writer, or of one whose beginning was parsed and another who goes on; or of none, to fail."""
    count = draw(st.integers(0, 2))
    raw = [draw(st.booleans()) for _ in range(count)]
    if count == 2:
        raw[0] = False  # nobody can go on from what nobody read
    found = [draw(writers(name, parsed)) for name, parsed in zip("ab"[:count], raw, strict=True)]
    flags = [draw(st.booleans()) for _ in range(5)]
    fails = flags[3] or not found
    endpoint: Endpoint = draw(st.sampled_from(["chat", "completions"]))
    return Play(endpoint, found, *flags[:3], fails, flags[4])


def exchange_of(play: Play) -> Exchange:
    body: Body = {"model": "test", "stream": True}
    if play.wants_usage:
        body["stream_options"] = {"include_usage": True}
    return Exchange(
        surface=play.endpoint,
        endpoint=play.endpoint,
        policy=simple_policy(),
        body=body,
        raw=b"",
        request=Request(stream=True),
        alone_price=None,
    )


def body_of(sent: list[Message]) -> tuple[Message, bytes]:
    """The response's start and its body, having checked that it is one response, which ends once."""
    start, *parts = sent
    assert start["type"] == "http.response.start"
    assert {part["type"] for part in parts} == {"http.response.body"}
    assert [part.get("more_body", False) for part in parts] == [True] * (len(parts) - 1) + [False]
    return start, b"".join(part["body"] for part in parts)


@given(plays())
def test_a_stream_is_one_well_formed_stream_or_ends_in_one_error(play: Play):
    asyncio.run(streamed(play))


async def streamed(play: Play) -> None:
    exchange, time = exchange_of(play), ByHand()
    await play.write(StreamReply(play.send, exchange, 5.0, time), time)
    start, raw = body_of(play.sent)
    if start["status"] != 200:
        assert play.fails
        assert not play.writers
        assert json.loads(raw)["error"]["code"] == "upstream_lost"
        return
    events = [found.data for found in SSEDecoder().iter_bytes(iter([raw]))]
    if play.fails:
        assert [json.loads(one).get("error", {}).get("code") for one in events].count("upstream_lost") == 1
        assert "upstream_lost" in events.pop()
    else:
        assert events.pop() == "[DONE]"
    assert_well_formed(play, exchange, [json.loads(one) for one in events])


def assert_well_formed(play: Play, exchange: Exchange, chunks: list[Body]) -> None:
    """One id, one role, one finish, which ends it, one usage, all of the text."""
    relayed = [writer.raw for writer in play.writers] == [True]
    assert {chunk["id"] for chunk in chunks} <= {"up-a" if relayed else exchange.id}
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    if play.endpoint == "chat":
        for chunk in chunks:
            ChatCompletionChunk.model_validate(chunk, strict=True)
        assert ["role" in choice["delta"] for choice in choices].count(True) == bool(play.writers)
        assert "".join(choice["delta"].get("content") or "" for choice in choices) == play.text
    else:
        assert "".join(choice["text"] for choice in choices) == play.text
    finishes = [choice["finish_reason"] for choice in choices]
    assert [one for one in finishes if one] == ([] if play.fails else ["stop"])
    assert play.fails or finishes[-1] == "stop"
    told = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    assert told == ([USAGE] if play.usage and play.wants_usage and not play.fails else [])


@given(plays())
def test_a_plain_reply_is_the_same_answer_whole_or_one_error(play: Play):
    asyncio.run(whole(play))


async def whole(play: Play) -> None:
    await play.write(PlainReply(play.send, exchange_of(play)), ByHand())
    start, raw = body_of(play.sent)
    answer = json.loads(raw)
    if play.fails:
        assert (start["status"], answer["error"]["code"]) == (502, "upstream_lost")
        return
    (choice,) = answer["choices"]
    assert (choice["message"]["content"] if play.endpoint == "chat" else choice["text"]) == play.text
    assert choice["finish_reason"] == "stop"
    assert answer.get("usage") == (USAGE if play.usage else None)


@pytest.mark.parametrize("fails", [True, False])
async def test_a_heartbeat_that_is_due_while_a_slow_client_takes_the_end_is_left_out(fails: bool):
    class Slow(Play):
        async def send(self, message: Message) -> None:
            self.sent.append(message)
            await asyncio.sleep(0)

    play, time = Slow("chat", [], False, False, False, fails, False), ByHand()
    reply = StreamReply(play.send, exchange_of(play), 5.0, time)
    for deadline in list(time.pending):
        deadline.fire()
    await (reply.fail(LOST) if fails else reply.finish(None))
    await time.pass_by()
    reply.close()
    assert body_of(play.sent)[0]["status"] == (502 if fails else 200)


async def test_a_heartbeat_that_comes_due_as_an_error_ends_the_reply_is_left_out():
    sent: list[Message] = []
    play, time = Play("chat", [], False, False, False, True, False, sent), ByHand()
    reply = StreamReply(play.send, exchange_of(play), 5.0, time)
    await reply.fail(LOST)
    await time.pass_by()
    reply.close()
    assert body_of(sent)[0]["status"] == 502
