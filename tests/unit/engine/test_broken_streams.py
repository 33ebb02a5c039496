"""Streams that end otherwise than they should, and what is booked for them."""

import asyncio
import json
from pathlib import Path

import pytest
from support.gateways import Gateway, StartGateway, settings_of, simple_policy, upstream
from support.scripted_server import Reply, Scripted, logprobs_of
from support.waiting import soon, until

from gateway.telemetry.record_writer import QueuedRecord, Recorder
from gateway.telemetry.settings import RecordSettings
from policies.records.reader import read_records
from policies.schema.policy import Policy

STREAM = {"model": "test", "messages": [{"role": "user", "content": "Go on?"}], "stream": True}
WORDS = ["one", " two", " three", " four", " five", " six", " seven"]


def chunk(delta: dict, finish: str | None = None, **choice: object) -> bytes:
    whole = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return (
        b"data: %b\n\n"
        % json.dumps(
            whole | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish, **choice}]}
        ).encode()
    )


def words(count: int) -> bytes:
    return b"".join(chunk({"content": word}, logprobs=logprobs_of(word, -0.01)) for word in WORDS[:count])


def text(raw: bytes) -> str:
    lines = [line[6:] for line in raw.decode().split("\n") if line.startswith("data: {")]
    found = [json.loads(line) for line in lines]
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in found if c.get("choices"))


@pytest.mark.parametrize(
    "bad",
    [
        b'data: {"error": {"message": "out of memory"}}\n\n',
        b"data: {nonsense\n\n",
        b'data: {"choices": [1]}\n\n',
    ],
    ids=["an error", "no JSON", "misshapen"],
)
async def test_what_was_committed_in_the_read_that_broke_is_delivered(
    gateway: Gateway, slm: Scripted, bad: bytes
):
    slm.says(Reply(raw=words(7) + bad), Reply(" eight"))
    _, _, raw = await gateway.post("/chat/completions", STREAM)
    assert text(raw) == "one two three four five six seven eight"
    assert raw.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("then", ["abort", "hang", "end"])
async def test_an_answer_that_ended_is_whole_however_its_connection_ends(
    gateway: Gateway, slm: Scripted, llm: Scripted, then: str
):
    ended = words(3) + chunk({}, "stop") + b"data: [DONE]\n\n"
    for model, server in (("test", slm), ("large", llm)):
        server.says(Reply(raw=ended, then=then))
        status, headers, raw = await gateway.post("/chat/completions", STREAM | {"model": model})
        assert (status, text(raw)) == (200, "one two three")
        assert raw.endswith(b"data: [DONE]\n\n")
        exchange = await gateway.exchange(headers["x-smallfirst-id"])
        assert [call["outcome"] for call in exchange["calls"]] == ["ok"]


async def test_a_relayed_stream_that_its_client_leaves_is_charged_for_what_was_written(
    gateway: Gateway, llm: Scripted
):
    llm.says(Reply(raw=words(6), then="hang"))
    stream = await gateway.client.chat.completions.create(**STREAM | {"model": "large"})
    seen = ""
    async for event in stream:
        seen += event.choices[0].delta.content or ""
        if seen.endswith("six"):
            break
    await stream.close()
    await soon(llm.gone.wait())
    (exchange_id,) = await until(gateway.app.exchanges.ids)
    exchange = await gateway.exchange(exchange_id)
    (call,) = exchange["calls"]
    assert (call["outcome"], call["completion_tokens"], call["estimated"]) == ("cancelled", 6, True)
    assert exchange["cost_usd"] == pytest.approx((call["prompt_tokens"] * 1 + 6 * 4) / 1e6)
    assert exchange["status"] == 499


async def test_a_call_that_never_left_costs_nothing(start: StartGateway, slm: Scripted, llm: Scripted):
    one = upstream(
        llm,
        "llm",
        limits={"in_flight": 1, "queued": 4, "retries": 0},
        price={"input": 1.0, "per_hour": 3600.0},
    )
    gateway = await start(settings_of(upstream(slm, "slm"), one), [simple_policy()])
    llm.says(Reply(gate=asyncio.Event()))
    plain = STREAM | {"stream": False, "model": "large"}
    first = asyncio.create_task(gateway.post("/chat/completions", plain))
    await llm.arrived.wait()
    second = asyncio.create_task(gateway.post("/chat/completions", plain))
    large = gateway.upstream("llm")
    await until(lambda: large.waiting)
    second.cancel()
    await until(lambda: not large.waiting)
    first.cancel()
    await until(lambda: len(gateway.app.exchanges.ids()) == 2)
    found = [await gateway.exchange(one) for one in gateway.app.exchanges.ids()]
    costs = sorted(exchange["cost_usd"] for exchange in found)
    assert costs[0] == 0.0
    assert costs[1] > 0.0


async def test_a_broken_llm_leaves_no_trace_in_the_headers_of_the_slms_stream(
    gateway: Gateway, slm: Scripted, llm: Scripted
):
    slm.says(Reply("a b c d e f g h", logprobs=-5.0))
    llm.says(Reply(raw=b"", then="abort"))
    _, headers, raw = await gateway.post("/chat/completions", STREAM)
    assert text(raw) == "a b c d e f g h"
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("slm", "no_llm")


async def test_a_role_alone_is_no_answer_and_another_may_still_give_one(
    gateway: Gateway, slm: Scripted, llm: Scripted
):
    """Servers say who speaks before their model has written anything."""
    slm.says(Reply("a b c", logprobs=-1.5))
    llm.says(Reply("never", cut_at=0))
    _, headers, raw = await gateway.post("/chat/completions", STREAM)
    assert text(raw) == "a b c"
    assert raw.count(b'"role"') == 1
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    assert (exchange["route"], exchange["reason"]) == ("slm", "no_llm")


@pytest.mark.parametrize("wanted", [True, False])
async def test_usage_in_a_chunk_with_text_is_the_clients_only_when_it_asked(
    gateway: Gateway, slm: Scripted, wanted: bool
):
    """llama.cpp's completions endpoint sends no chunk of its own for it."""
    usage = b'"usage": {"prompt_tokens": 10, "completion_tokens": 3}, "choices"'
    last = chunk({}, "stop").replace(b'"choices"', usage)
    slm.says(Reply(raw=words(3) + last + b"data: [DONE]\n\n"))
    more = {"stream_options": {"include_usage": True}} if wanted else {}
    _, headers, raw = await gateway.post("/chat/completions", STREAM | more)
    assert (b'"usage"' in raw) is wanted
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    assert exchange["calls"][0]["completion_tokens"] == 3
    assert exchange["calls"][0]["estimated"] is False


async def test_tags_are_bounded(gateway: Gateway):
    for tags in ({"a": "x" * 300}, {str(number): "x" for number in range(20)}):
        status, _, _ = await gateway.post("/chat/completions", STREAM | {"smallfirst": {"tags": tags}})
        assert status == 400


def test_a_batch_that_cannot_be_written_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A failed write leaves no half line, and the policy is introduced again."""
    dropped: list[int] = []
    recorder = Recorder(RecordSettings(), tmp_path, lambda: dropped.append(1))
    policy: Policy = simple_policy()
    write = __import__("os").write
    fail = True

    def failing(descriptor: int, data: bytes) -> int:
        if fail:
            write(descriptor, bytes(data)[:10])
            raise OSError(28, "No space left on device")
        return int(write(descriptor, data))

    monkeypatch.setattr("gateway.telemetry.record_file.os.write", failing)
    recorder._queue.append(QueuedRecord(policy, b"first"))
    recorder._write_queued()
    assert len(dropped) == 1
    fail = False
    recorder._queue.append(QueuedRecord(policy, b"second"))
    recorder._write_queued()
    recorder.close()
    (path,) = tmp_path.glob("*.jsonl")
    lines = path.read_bytes().splitlines()
    assert b'"type":"policy"' in lines[0]
    assert lines[1:] == [b"second"]
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(lines[0] + b"\n")
    assert list(read_records(path)) == []
