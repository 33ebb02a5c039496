"""The official client, unchanged: chat completions and responses, asynchronous and synchronous."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from support.client_scenarios import (
    ALONE,
    ERRORS,
    LOGPROBS,
    POLICIES,
    RETRY_AFTER,
    SAID,
    SMALL,
    SURE,
    WAYS,
    Case,
    Opposite,
    freed_by,
    look_up,
)
from support.disconnect import MOST
from support.pairwise import every_pair
from support.responses_types import typed_event, typed_response
from support.scripted_server import Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

FUNCTION: dict[str, Any] = {
    "name": "look_up",
    "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
}
TOOLS: list[Any] = [{"type": "function", "function": FUNCTION}]
FLAT_TOOLS: list[Any] = [{"type": "function", **FUNCTION}]
STREAM = {"plain": False, "stream": True}
EACH_POLICY = every_pair(policy_name=[*POLICIES], sure=SURE)
EACH_WAY = every_pair(policy_name=WAYS, sure=SURE)
EACH_WAY_AND_STREAM = every_pair(policy_name=WAYS, sure=SURE, stream=STREAM)
EACH_ERROR = every_pair(error=[*ERRORS], policy_name=WAYS, sure=ALONE)
AUTO = every_pair(policy_name=["auto"], sure=SURE)
AUTO_ALONE = every_pair(policy_name=["auto"], sure=ALONE)
AUTO_ERROR = every_pair(error=[*ERRORS], policy_name=["auto"], sure=ALONE)
"""What does not depend on the policy is asked of one."""


def strictly(model: Any) -> Any:
    """The client reads leniently; this holds its reading against the type it names."""
    return type(model).model_validate(model.model_dump(), strict=False)


def asked(case: Case, **more: Any) -> dict[str, Any]:
    return {"model": case.model, "messages": [{"role": "user", "content": case.question}], **more}


@EACH_POLICY
async def test_chat(case: Case):
    case.talk()
    raw = await case.gateway.client.chat.completions.with_raw_response.create(**asked(case))
    answer = raw.parse()
    assert isinstance(answer, ChatCompletion)
    assert strictly(answer) == answer
    assert (answer.object, answer.choices[0].finish_reason) == ("chat.completion", "stop")
    assert answer.choices[0].message.content == case.said
    assert answer.usage is not None
    assert answer.usage.total_tokens == 13
    assert raw.headers["x-smallfirst-route"] == case.by
    assert raw.headers["x-smallfirst-policy"] == case.model
    assert await case.routes() == [case.by]


@EACH_POLICY
async def test_chat_stream(case: Case):
    case.talk()
    text, usage = "", None
    ask = asked(case, stream=True, stream_options={"include_usage": True})
    raw = await case.gateway.client.chat.completions.with_raw_response.create(**ask)
    async for chunk in raw.parse():
        assert isinstance(chunk, ChatCompletionChunk)
        assert strictly(chunk) == chunk
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
    assert text == case.said
    assert usage is not None
    assert usage.completion_tokens == 3
    assert raw.headers["x-smallfirst-route"] == case.by
    assert await case.routes() == [case.by]


@EACH_WAY
async def test_chat_tools(case: Case):
    """Plain: the model calls, the tool answers, the model says."""
    case.call_a_tool()
    completions = case.gateway.client.chat.completions
    ask = asked(case, tools=TOOLS)
    first = await completions.create(**ask)
    assert strictly(first) == first
    assert first.choices[0].finish_reason == "tool_calls"
    ask["messages"] += turn_of(first.choices[0].message)
    second = await completions.create(**ask)
    assert second.choices[0].message.content == case.said
    assert case.results() == [look_up(case.word)]
    assert await case.routes() == [case.by, case.by]


@EACH_WAY
async def test_chat_tools_streamed(case: Case):
    case.call_a_tool()
    completions = case.gateway.client.chat.completions
    ask = asked(case, tools=TOOLS)
    arguments: list[str] = []
    async with completions.stream(**ask) as stream:
        async for event in stream:
            arguments += [event.arguments] if event.type == "tool_calls.function.arguments.done" else []
        first = await stream.get_final_completion()
    assert [json.loads(one) for one in arguments] == [{"word": case.word}]
    assert first.choices[0].finish_reason == "tool_calls"
    ask["messages"] += turn_of(first.choices[0].message)
    async with completions.stream(**ask) as stream:
        second = await stream.get_final_completion()
    assert second.choices[0].message.content == case.said
    assert case.results() == [look_up(case.word)]
    assert await case.routes() == [case.by, case.by]


def turn_of(message: Any) -> list[Any]:
    """The assistant's message and the results of the tools that it calls."""
    results = [
        {
            "role": "tool",
            "tool_call_id": call.id,
            "content": {"look_up": look_up}[call.function.name](**json.loads(call.function.arguments)),
        }
        for call in message.tool_calls
    ]
    calls = [
        call.model_dump(include={"id": True, "type": True, "function": {"name", "arguments"}})
        for call in message.tool_calls
    ]
    return [{"role": "assistant", "content": message.content, "tool_calls": calls}, *results]


@EACH_WAY
async def test_chat_structured_output(case: Case):
    case.answer_in_json()
    completions = case.gateway.client.chat.completions
    plain = await completions.parse(**asked(case), response_format=Opposite)
    async with completions.stream(**asked(case), response_format=Opposite) as stream:
        streamed = await stream.get_final_completion()
    for found in (plain, streamed):
        assert found.choices[0].message.parsed == Opposite(word=case.word)
    assert await case.routes() == [case.by, case.by]


@EACH_ERROR
async def test_chat_errors(case: Case, error: str):
    reply, status, code = ERRORS[error]
    case.fail(reply)
    for stream in (False, True):
        with pytest.raises(openai.APIStatusError) as caught:
            await case.gateway.client.chat.completions.create(**asked(case, stream=stream))
        is_the_errors(caught.value, status, code)


def is_the_errors(caught: openai.APIStatusError, status: int, code: str) -> None:
    assert type(caught) is EXCEPTIONS[status]
    assert (caught.status_code, caught.code) == (status, code)
    assert caught.param == ("top_p" if status == 400 else None)
    assert caught.response.headers.get("retry-after") == (None if status == 400 else RETRY_AFTER)


EXCEPTIONS = {
    400: openai.BadRequestError,
    429: openai.RateLimitError,
    503: openai.InternalServerError,
}


@EACH_POLICY
async def test_response(case: Case):
    case.talk()
    raw = await case.gateway.client.responses.with_raw_response.create(model=case.model, input=case.question)
    response = raw.parse()
    assert typed_response(response.to_dict()) == response
    assert (response.status, response.output_text) == ("completed", case.said)
    assert raw.headers["x-smallfirst-route"] == case.by
    assert await case.routes() == [case.by]


@EACH_POLICY
async def test_response_stream(case: Case):
    case.talk()
    stream = await case.gateway.client.responses.create(model=case.model, input=case.question, stream=True)
    events = [event async for event in stream]
    assert [typed_event(event.to_dict()) for event in events] == events
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == case.said
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == case.said
    assert await case.routes() == [case.by]


@EACH_WAY_AND_STREAM
async def test_response_tools(case: Case, stream: bool):
    case.call_a_tool()
    turn: list[Any] = [{"role": "user", "content": case.question}]
    first = await response_of(case, turn, stream)
    (call,) = [item for item in first.output if item.type == "function_call"]
    result = look_up(**json.loads(call.arguments))
    turn += [*first.output, {"type": "function_call_output", "call_id": call.call_id, "output": result}]
    second = await response_of(case, turn, stream)
    assert second.output_text == case.said
    assert case.results() == [look_up(case.word)]
    assert await case.routes() == [case.by, case.by]


async def response_of(case: Case, turn: list[Any], stream: bool) -> Any:
    responses = case.gateway.client.responses
    ask: dict[str, Any] = {"model": case.model, "input": turn, "tools": FLAT_TOOLS}
    if not stream:
        return await responses.create(**ask)
    async with responses.stream(**ask) as events:
        return await events.get_final_response()


@EACH_WAY
async def test_response_structured_output(case: Case):
    case.answer_in_json()
    responses = case.gateway.client.responses
    ask: dict[str, Any] = {"model": case.model, "input": case.question, "text_format": Opposite}
    plain = await responses.parse(**ask)
    async with responses.stream(**ask) as stream:
        streamed = await stream.get_final_response()
    assert plain.output_parsed == streamed.output_parsed == Opposite(word=case.word)
    assert await case.routes() == [case.by, case.by]


@EACH_ERROR
async def test_response_errors(case: Case, error: str):
    reply, status, code = ERRORS[error]
    case.fail(reply)
    for stream in (False, True):
        with pytest.raises(openai.APIStatusError) as caught:
            await case.gateway.client.responses.create(model=case.model, input=case.question, stream=stream)
        is_the_errors(caught.value, status, code)


@pytest.fixture(scope="module")
def sync(tiers: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=tiers.gateway.url, api_key="none", max_retries=0) as client:
        yield client


@EACH_WAY
async def test_the_synchronous_client(case: Case, sync: openai.OpenAI):
    def talk() -> list[str | None]:
        raw = sync.chat.completions.with_raw_response.create(**asked(case))
        assert raw.headers["x-smallfirst-route"] == case.by
        with sync.chat.completions.create(**asked(case, stream=True)) as chunks:
            streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        response = sync.responses.create(model=case.model, input=case.question)
        return [raw.parse().choices[0].message.content, streamed, response.output_text]

    case.talk()
    assert await asyncio.to_thread(talk) == [case.said] * 3
    assert await case.routes() == [case.by] * 3


@AUTO
async def test_the_synchronous_clients_tools(case: Case, sync: openai.OpenAI):
    def talk() -> str | None:
        ask = asked(case, tools=TOOLS)
        with sync.chat.completions.stream(**ask) as stream:
            first = stream.get_final_completion()
        ask["messages"] += turn_of(first.choices[0].message)
        return sync.chat.completions.create(**ask).choices[0].message.content

    case.call_a_tool()
    assert await asyncio.to_thread(talk) == case.said
    assert case.results() == [look_up(case.word)]
    assert await case.routes() == [case.by, case.by]


@AUTO
async def test_the_synchronous_clients_structured_output(case: Case, sync: openai.OpenAI):
    def talk() -> Opposite | None:
        found = sync.chat.completions.parse(**asked(case), response_format=Opposite)
        return found.choices[0].message.parsed

    case.answer_in_json()
    assert await asyncio.to_thread(talk) == Opposite(word=case.word)
    assert await case.routes() == [case.by]


@AUTO_ERROR
async def test_the_synchronous_clients_errors(case: Case, sync: openai.OpenAI, error: str):
    reply, status, code = ERRORS[error]
    case.fail(reply)
    for stream in (False, True):
        with pytest.raises(openai.APIStatusError) as caught:
            await asyncio.to_thread(sync.chat.completions.create, **asked(case, stream=stream))
        is_the_errors(caught.value, status, code)


@every_pair(policy_name=WAYS, sure=SURE, endpoint=["chat", "responses"])
async def test_leaving_frees_the_upstream(case: Case, endpoint: str):
    client = case.gateway.client

    async def chat() -> None:
        async with client.chat.completions.stream(**asked(case)) as stream:
            await stream.get_final_completion()

    async def response() -> None:
        async with client.responses.stream(model=case.model, input=case.question) as stream:
            await stream.get_final_response()

    assert await freed_by(case, chat if endpoint == "chat" else response) < MOST


@every_pair(policy_name=WAYS)
async def test_nobody_there(deserted: str, policy_name: str):
    async with openai.AsyncOpenAI(base_url=deserted, api_key="none", max_retries=0) as client:
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError) as caught:
                await client.responses.create(model=policy_name, input="Is ice cold?", stream=stream)
            assert (caught.value.status_code, caught.value.code) == (503, "upstream_unavailable")
            assert int(caught.value.response.headers["retry-after"]) >= 1


async def test_an_unknown_model(tiers: Any):
    with pytest.raises(openai.NotFoundError, match="there are: ") as missing:
        await tiers.gateway.client.responses.create(model="gpt-9", input="Is ice cold?")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")


# --- what does not depend on the policy


@AUTO
async def test_logprobs_parse_in_a_plain_answer_and_in_a_stream(case: Case):
    """They are those of the model that wrote the tokens."""
    case.talk()
    completions = case.gateway.client.chat.completions
    ask = asked(case, logprobs=True, top_logprobs=2)
    plain = await completions.create(**ask)
    async with completions.stream(**ask) as stream:
        streamed = await stream.get_final_completion()
    for found in (plain, streamed):
        logprobs = found.choices[0].logprobs
        assert logprobs is not None
        tokens = logprobs.content or ()
        assert "".join(token.token for token in tokens) == case.said
        assert {token.logprob for token in tokens} == {LOGPROBS[case.sure] if case.by == "slm" else -0.01}
        assert all(len(token.top_logprobs) == 2 for token in tokens)


@AUTO_ALONE
async def test_own_fields_go_in_as_extra_body(case: Case):
    case.talk()
    extra = {"smallfirst": {"policy": "offline", "tags": {"team": "words"}}}
    await case.gateway.client.chat.completions.create(**asked(case), extra_body=extra)
    (exchange,) = await case.exchanges()
    assert (exchange["policy"], exchange["tags"]) == ("offline", {"team": "words"})


@AUTO_ALONE
@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (422, openai.UnprocessableEntityError, "invalid_value"),
        (401, openai.InternalServerError, "upstream_refused"),
        (500, openai.InternalServerError, "upstream_error"),
    ],
)
async def test_other_errors_are_the_clients_own_exceptions(
    case: Case, status: int, kind: type[openai.APIStatusError], code: str
):
    case.fail(Reply(status=status))
    for stream in (False, True):
        with pytest.raises(kind) as caught:
            await case.gateway.client.chat.completions.create(**asked(case, stream=stream))
        assert caught.value.code == code


@AUTO_ALONE
async def test_a_stream_that_breaks_off_raises_in_the_client(case: Case):
    case.fail(Reply("one two three four", cut_at=2))
    seen: list[str] = []

    async def read() -> None:
        async for chunk in await case.gateway.client.chat.completions.create(
            model="large", messages=asked(case)["messages"], stream=True
        ):
            seen.append(chunk.choices[0].delta.content or "")  # noqa: PERF401  it ends in an error

    with pytest.raises(openai.APIError, match="broke off") as caught:
        await read()
    assert "".join(seen) == "one two"
    assert caught.value.code == "upstream_lost"


@AUTO_ALONE
async def test_the_clients_own_retries_follow_retry_after(case: Case):
    busy = Reply(status=503, headers={"Retry-After": "1"})
    case.llm.says(busy, Reply("Cold."))
    patient = case.gateway.client.with_options(max_retries=1)
    answer = await patient.chat.completions.create(model="large", messages=asked(case)["messages"])
    assert answer.choices[0].message.content == "Cold."
    assert len(case.llm.requests) == 2


@AUTO_ALONE
async def test_completions_embeddings_and_models(case: Case, sync: openai.OpenAI):
    case.talk()

    def talk() -> None:
        assert sync.completions.create(model=SMALL.model, prompt="hot is not").choices[0].text == SAID["slm"]
        found = sync.embeddings.create(model="large", input="hot", encoding_format="float")
        assert found.data[0].embedding == [0.5, -0.5]
        assert {case.model, "large", SMALL.model} <= {model.id for model in sync.models.list()}

    await asyncio.to_thread(talk)
