"""The gateway before real vLLM: what its own tests see scripted, done by the server itself."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import jsonschema
import openai
import pytest
from support.gateways import (
    ONCE,
    Gateway,
    StartGateway,
    settings_of,
    simple_calibrator,
    simple_policy,
    upstream,
)
from support.scripted_server import Reply, Scripted
from support.waiting import until

from benchmarks.vllm.server import Server
from gateway.upstreams.capability_probe import fetch_context_length, probe_capabilities
from gateway.upstreams.providers.registry import SERVER_KINDS

pytestmark = [pytest.mark.vllm, pytest.mark.heavy]

ALONE = 300.0
"""Seconds in which it has written the longest answer that is asked for here to its end."""

TALE = "Tell me about the sea in three sentences."
JUDGES = {
    "calibrator": simple_calibrator("smollm2", "vllm"),
    "constrained_calibrator": simple_calibrator("smollm2", "vllm", "constrained"),
}


def served(server: Server, **more: Any) -> dict[str, Any]:
    fields = {"name": "vllm", "tier": "slm", "url": server.url, "model": server.model, "engine": "vllm"}
    return fields | {"probe": 0, "limits": ONCE} | more


def ask(question: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    return {"model": "smollm2", "messages": messages, "temperature": 0, "max_tokens": 24} | more


@pytest.fixture
async def real(start: StartGateway, vllm_server: Server) -> Gateway:
    return await start(settings_of(served(vllm_server)))


@pytest.fixture
async def cascade(start: StartGateway, vllm_server: Server, llm: Scripted) -> Callable[..., Any]:
    llm.says("It is wide and deep.")

    async def one(**changes: Any) -> Gateway:
        policy = simple_policy(**JUDGES, **{"accept": 0.0, "give_up": None} | changes)
        return await start(settings_of(served(vllm_server), upstream(llm, "llm")), [policy])

    return one


async def text_of(stream: AsyncIterator[Any]) -> str:
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


async def at_rest(server: Server) -> None:
    """Once it writes no more, because it was told to or because it is done: how far it came says which."""

    async def idle() -> bool:
        return await asyncio.to_thread(server.metric, "vllm:num_requests_running") == 0

    await until(idle, ALONE)


async def test_a_stream_says_what_a_plain_answer_says(real: Gateway):
    plain = await real.client.chat.completions.create(**ask(TALE))
    counted = {"include_usage": True}
    stream = await real.client.chat.completions.create(**ask(TALE, stream=True, stream_options=counted))
    chunks = [chunk async for chunk in stream]
    assert (
        "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        == plain.choices[0].message.content
    )
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == [
        "length"
    ]
    assert (plain.choices[0].finish_reason, plain.usage.completion_tokens) == ("length", 24)
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (
        plain.usage.prompt_tokens,
        24,
    )


@pytest.mark.parametrize("policy", ["smollm2", "test"])
@pytest.mark.parametrize("count", [0, 1, 7, 20])
async def test_a_client_gets_as_many_alternatives_as_it_asked_for(
    cascade: Callable[..., Any], policy: str, count: int
):
    """A cascade reads five itself."""
    gateway = await cascade()
    asked = ask(TALE, model=policy, max_tokens=6, logprobs=True, top_logprobs=count)
    plain = await gateway.client.chat.completions.create(**asked)
    streamed = await gateway.client.chat.completions.create(**asked, stream=True)
    in_stream = [
        token
        async for chunk in streamed
        if chunk.choices and chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content
    ]
    for tokens in (plain.choices[0].logprobs.content, in_stream):
        assert len(tokens) == 6
        assert {len(token.top_logprobs) for token in tokens} == {count}


async def test_a_sure_draft_is_committed_while_it_is_written(cascade: Callable[..., Any], llm: Scripted):
    gateway = await cascade(commit=0.0)
    _, headers, raw = await gateway.post("/chat/completions", ask(TALE, model="test", stream=True))
    found = await gateway.exchange(headers["x-smallfirst-id"])
    assert (found["route"], found["reason"]) == ("slm", "committed")
    assert raw.count(b'"content"') > 10
    assert llm.requests == []


async def test_a_draft_that_is_given_up_is_cancelled_at_the_server(
    cascade: Callable[..., Any], vllm_server: Server
):
    gateway = await cascade(accept=1.0, commit=None, give_up=0.999)
    before = vllm_server.metric("vllm:generation_tokens_total")
    body = ask(TALE, model="test", stream=True, max_tokens=1500, min_tokens=1500)
    _, headers, raw = await gateway.post("/chat/completions", body)
    found = await gateway.exchange(headers["x-smallfirst-id"])
    assert (found["route"], [call["outcome"] for call in found["calls"]]) == ("llm", ["stopped", "ok"])
    assert b"wide" in raw
    await at_rest(vllm_server)
    assert vllm_server.metric("vllm:generation_tokens_total") - before < 500


async def test_a_client_that_leaves_stops_the_server(real: Gateway, vllm_server: Server):
    before = vllm_server.metric("vllm:generation_tokens_total")
    stream = await real.client.chat.completions.create(
        **ask(TALE, stream=True, max_tokens=1500), extra_body={"ignore_eos": True}
    )
    await anext(aiter(stream))
    assert vllm_server.metric("vllm:num_requests_running") == 1
    await stream.close()
    await at_rest(vllm_server)
    assert vllm_server.metric("vllm:generation_tokens_total") - before < 500


@pytest.mark.parametrize("model", ["smollm2", "test"])
async def test_a_begun_answer_is_gone_on_with_where_the_client_says_so(
    cascade: Callable[..., Any], model: str
):
    """Where it does not, the server answers anew, as OpenAI's does."""
    gateway = await cascade()
    body = ask("What is the opposite of hot?", max_tokens=8, model=model)
    body["messages"].append({"role": "assistant", "content": "The opposite of hot"})
    anew = await gateway.client.chat.completions.create(**body)
    assert anew.choices[0].message.content.startswith("The opposite of hot is")
    body["extra_body"] = {"continue_final_message": True, "add_generation_prompt": False}
    plain = await gateway.client.chat.completions.create(**body)
    streamed = await text_of(await gateway.client.chat.completions.create(**body, stream=True))
    assert plain.choices[0].message.content == streamed
    assert streamed.startswith(" is cold")


async def test_it_goes_on_from_a_sentence_of_another_model(
    start: StartGateway, vllm_server: Server, slm: Scripted
):
    """A splice: what the small model had delivered stands, and is not repeated."""
    slm.says(Reply("The sea is wide, deep and blue. It has a", logprobs=[0.0] * 7 + [-8.0] * 3))
    policy = simple_policy(accept=0.5, commit=0.9, give_up=None, release="splice")
    gateway = await start(settings_of(upstream(slm, "slm"), served(vllm_server, tier="llm")), [policy])
    body = ask(TALE, model="test", stream=True, min_tokens=12)
    _, headers, raw = await gateway.post("/chat/completions", body)
    found = await gateway.exchange(headers["x-smallfirst-id"])
    assert found["route"] == "slm+llm"
    text = "".join(
        choice["delta"].get("content") or ""
        for line in raw.decode().splitlines()
        if line.startswith("data: {")
        for choice in json.loads(line[6:])["choices"]
    )
    assert text.startswith("The sea is wide, deep and blue. ")
    assert text.count("The sea is wide, deep") == 1
    assert len(text.split()) > 12


async def test_what_is_known_of_vllm_is_what_it_does(real: Gateway):
    """Whether it sees depends on the model, so that is left to the server to refuse."""
    upstream = real.upstream("slm")
    found = await probe_capabilities(upstream)
    known = SERVER_KINDS["vllm"].capabilities(upstream.model, "").model_dump()
    assert found == {name: known[name] for name in found} | {"vision": False}
    assert await fetch_context_length(upstream) == 2048


async def test_it_refuses_images_itself(real: Gateway):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    with pytest.raises(openai.BadRequestError, match="multimodal"):
        await real.client.chat.completions.create(**ask("", messages=[{"role": "user", "content": [image]}]))


LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks at a place.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"enum": ["sea", "land"]}},
            "required": ["place"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
NAMED = {"type": "function", "function": {"name": "look"}}


@pytest.mark.parametrize("model", ["smollm2", "test"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_is_called_with_arguments_that_fit(
    cascade: Callable[..., Any], model: str, stream: bool
):
    gateway = await cascade()
    body = ask("Look at the sea.", model=model, max_tokens=60, tools=[LOOK], tool_choice=NAMED)
    if stream:
        chunks = await gateway.client.chat.completions.create(**body, stream=True)
        calls = [
            call
            async for chunk in chunks
            if chunk.choices
            for call in chunk.choices[0].delta.tool_calls or []
        ]
        name = calls[0].function.name
        arguments = "".join(call.function.arguments or "" for call in calls)
    else:
        answer = await gateway.client.chat.completions.create(**body)
        (call,) = answer.choices[0].message.tool_calls
        name, arguments = call.function.name, call.function.arguments
    assert name == "look"
    assert json.loads(arguments)["place"] in ("sea", "land")


async def test_arguments_that_do_not_fit_escalate(cascade: Callable[..., Any], llm: Scripted):
    """Without `strict` it does not hold the model to the parameters, which then are a mere "sea"."""
    gateway = await cascade()
    llm.says(Reply(calls=[("look", '{"place": "sea"}')]))
    loose = {**LOOK, "function": {**LOOK["function"], "strict": False}}
    body = ask("Look at the sea.", model="test", max_tokens=60, tools=[loose], tool_choice=NAMED)
    _, headers, raw = await gateway.post("/chat/completions", body)
    found = await gateway.exchange(headers["x-smallfirst-id"])
    assert (found["route"], found["reason"]) == ("llm", "tool_arguments")
    (call,) = json.loads(raw)["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"place": "sea"}


@pytest.mark.parametrize("model", ["smollm2", "test"])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_meets_its_schema(cascade: Callable[..., Any], model: str, stream: bool):
    gateway = await cascade()
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "large": {"type": "boolean"}},
        "required": ["city", "large"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": schema}}
    body = ask("Name a city.", model=model, max_tokens=80, response_format=form)
    if stream:
        text = await text_of(await gateway.client.chat.completions.create(**body, stream=True))
    else:
        text = (await gateway.client.chat.completions.create(**body)).choices[0].message.content
    jsonschema.validate(json.loads(text), schema)
