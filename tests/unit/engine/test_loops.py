"""A small model that stands alone and can't leave a loop: its answer ends, and says so."""

import asyncio
from typing import Any

import pytest
from support.gateways import Gateway, StartGateway, settings_of, simple_policy, upstream
from support.scripted_server import Reply, Scripted
from support.waiting import soon, until

from routers.judges.guard import Guard

LOOP = " ".join(["Well:", *["la femme au martyre, "] * 200])
STUCK = " ".join(LOOP.split(" ")[:448])
"""Of its first word and the 384 that show it is stuck, the next multiple of 64: where it is looked at."""

QUESTION: dict[str, Any] = {"model": "test", "messages": [{"role": "user", "content": "Capital of France?"}]}


@pytest.fixture
async def alone(start: StartGateway, slm: Scripted) -> Gateway:
    slm.says(Reply(LOOP, gate=asyncio.Event(), gate_at=460))
    return await start(settings_of(upstream(slm, "slm")), [simple_policy()])


async def ended(gateway: Gateway) -> dict[str, Any]:
    (name,) = await until(gateway.app.exchanges.ids)
    found = await gateway.exchange(name)
    assert (found["status"], found["route"], found["reason"]) == (200, "slm", "no_llm")
    call = found["calls"][-1]
    assert (call["outcome"], call["reason"], call["completion_tokens"]) == ("stopped", "loop", 448)
    return found


async def test_a_plain_answer_ends_as_at_a_limit(alone: Gateway, slm: Scripted):
    answer = await alone.client.chat.completions.create(**QUESTION)
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason) == (STUCK, "length")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 448
    found = await ended(alone)
    assert found["confidence"] is not None
    await soon(slm.gone.wait())


async def test_a_stream_has_one_finish_and_its_usage(alone: Gateway):
    stream = await alone.client.chat.completions.create(
        **QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == STUCK
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["length"]
    assert choices[-1].finish_reason == "length"
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [448]
    assert len({chunk.id for chunk in chunks}) == 1
    await ended(alone)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_completion_ends_likewise(alone: Gateway, stream: bool):
    asked = alone.client.completions.create(model="test", prompt="Capital of France?", stream=stream)
    parts = [part async for part in await asked] if stream else [await asked]
    assert "".join(part.choices[0].text for part in parts) == STUCK
    assert [part.choices[0].finish_reason for part in parts if part.choices[0].finish_reason] == ["length"]
    await ended(alone)


async def test_a_response_is_incomplete(alone: Gateway):
    response = await alone.client.responses.create(model="test", input="Capital of France?")
    assert (response.status, response.output_text) == ("incomplete", STUCK)
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    await ended(alone)


@pytest.mark.parametrize("stream", [False, True])
async def test_where_the_large_model_is_dead_the_loop_is_written_again_and_ends(
    start: StartGateway, slm: Scripted, llm: Scripted, stream: bool
):
    """Of the draft that was given up nothing was kept."""
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [simple_policy()])
    slm.says(Reply(LOOP, logprobs=-0.7))
    llm.says(Reply(status=500))
    status, _, raw = await gateway.post("/chat/completions", QUESTION | {"stream": stream})
    assert (status, raw.count(b'"finish_reason":"length"')) == (200, 1)
    found = await ended(gateway)
    assert [call["outcome"] for call in found["calls"]] == ["stopped", "error", "stopped"]
    assert found["llm_alone_usd"] > 448 * 4 / 1e6


@pytest.mark.parametrize("stream", [False, True])
async def test_a_guard_judges_what_there_is(
    start: StartGateway, slm: Scripted, spare: Scripted, stream: bool
):
    guarded = simple_policy().replace(guard=Guard(model="spare", output=True))
    judge = upstream(spare, "slm", judges_only=True, priority=-1)
    gateway = await start(settings_of(judge, upstream(slm, "slm")), [guarded])
    slm.says(Reply(LOOP))
    spare.says("no")
    status, headers, raw = await gateway.post("/chat/completions", QUESTION | {"stream": stream})
    assert (status, raw.count(b'"finish_reason":"length"')) == (200, 1)
    found = await gateway.exchange(headers["x-smallfirst-id"])
    assert [call["outcome"] for call in found["calls"]] == ["stopped", "ok"]
    assert STUCK in spare.requests[0]["messages"][0]["content"]


async def test_who_asks_for_a_model_by_its_name_gets_all_that_it_writes(start: StartGateway, slm: Scripted):
    gateway = await start(settings_of(upstream(slm, "slm")), [simple_policy()])
    slm.says(Reply(LOOP))
    answer = await gateway.client.chat.completions.create(**QUESTION | {"model": "small"})
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (LOOP, "stop")
