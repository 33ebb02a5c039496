"""LangChain's ChatOpenAI, over chat completions and over responses."""

import asyncio
from collections.abc import Callable
from functools import cache
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from support.client_scenarios import ALONE, ERRORS, SURE, WAYS, Case, Opposite, freed_by, look_up
from support.disconnect import MOST
from support.pairwise import every_pair

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOOK_UP = tool(look_up)
Chat = Callable[..., ChatOpenAI]
APIS = {"chat": False, "responses": True}
STREAM = {"plain": False, "stream": True}
EACH_WAY = every_pair(policy_name=WAYS, sure=SURE, chat=APIS, indirect=["chat"])
EACH_WAY_AND_STREAM = every_pair(policy_name=WAYS, sure=SURE, chat=APIS, stream=STREAM, indirect=["chat"])
EACH_ERROR = every_pair(error=[*ERRORS], policy_name=WAYS, sure=ALONE, chat=APIS, indirect=["chat"])


@pytest.fixture(scope="module", params=APIS.values(), ids=APIS)
def chat(request: pytest.FixtureRequest, tiers: Any) -> Chat:
    @cache  # each is a client of its own, which takes a while to make
    def made(model: str, url: str = tiers.gateway.url) -> ChatOpenAI:
        return ChatOpenAI(
            model=model, base_url=url, api_key="none", max_retries=0, use_responses_api=request.param
        )

    return made


@EACH_WAY
async def test_chat(case: Case, chat: Chat):
    case.talk()
    answer = await chat(case.model).ainvoke(case.question)
    assert answer.text == case.said
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] == 13
    assert await case.routes() == [case.by]


@EACH_WAY
async def test_stream(case: Case, chat: Chat):
    case.talk()
    parts = [part async for part in chat(case.model).astream(case.question)]
    assert "".join(part.text for part in parts) == case.said
    assert await case.routes() == [case.by]


@EACH_WAY
async def test_the_synchronous_calls(case: Case, chat: Chat):
    case.talk()
    model = chat(case.model)
    answer = await asyncio.to_thread(model.invoke, case.question)
    parts = await asyncio.to_thread(lambda: list(model.stream(case.question)))
    assert answer.text == "".join(part.text for part in parts) == case.said
    assert await case.routes() == [case.by, case.by]


@EACH_WAY_AND_STREAM
async def test_tools(case: Case, chat: Chat, stream: bool):
    case.call_a_tool()
    model = chat(case.model).bind_tools([LOOK_UP])
    turns: list[Any] = [HumanMessage(case.question)]
    first = await said(model, turns, stream)
    (call,) = first.tool_calls
    assert (call["name"], call["args"]) == ("look_up", {"word": case.word})
    result = await LOOK_UP.ainvoke(call)
    assert isinstance(result, ToolMessage)
    assert (await said(model, [*turns, first, result], stream)).text == case.said
    assert case.results() == [look_up(case.word)]
    assert await case.routes() == [case.by, case.by]


async def said(model: Any, turns: list[Any], stream: bool) -> AIMessage:
    if not stream:
        found: AIMessage = await model.ainvoke(turns)
        return found
    whole: AIMessageChunk | None = None
    async for part in model.astream(turns):
        whole = part if whole is None else whole + part
    assert whole is not None
    return whole


@EACH_WAY
async def test_structured_output(case: Case, chat: Chat):
    case.answer_in_json()
    model = chat(case.model).with_structured_output(Opposite, method="json_schema")
    assert await model.ainvoke(case.question) == Opposite(word=case.word)
    assert await case.routes() == [case.by]


@EACH_WAY
async def test_structured_output_by_a_tool(case: Case, chat: Chat):
    case.call_a_tool("Opposite")
    model = chat(case.model).with_structured_output(Opposite, method="function_calling")
    assert await model.ainvoke(case.question) == Opposite(word=case.word)
    assert await case.routes() == [case.by]


@EACH_ERROR
async def test_errors(case: Case, chat: Chat, error: str):
    reply, status, code = ERRORS[error]
    case.fail(reply)
    model = chat(case.model)
    with pytest.raises(openai.APIStatusError) as plain:
        await model.ainvoke(case.question)
    with pytest.raises(openai.APIStatusError) as streamed:
        await said(model, [HumanMessage(case.question)], stream=True)
    for caught in (plain.value, streamed.value):
        assert (caught.status_code, caught.code) == (status, code)


@every_pair(policy_name=["auto"], chat=APIS, indirect=["chat"])
async def test_nobody_there(deserted: str, policy_name: str, chat: Chat):
    with pytest.raises(openai.InternalServerError) as caught:
        await chat(policy_name, deserted).ainvoke("Is ice cold?")
    assert (caught.value.status_code, caught.value.code) == (503, "upstream_unavailable")


async def test_an_unknown_model(chat: Chat):
    with pytest.raises(openai.NotFoundError, match="there are: ") as caught:
        await chat("gpt-9").ainvoke("Is ice cold?")
    assert caught.value.code == "model_not_found"


@EACH_WAY
async def test_leaving_frees_the_upstream(case: Case, chat: Chat):
    model, turns = chat(case.model), [HumanMessage(case.question)]
    assert await freed_by(case, lambda: said(model, turns, stream=True)) < MOST


@every_pair(policy_name=["balanced"], sure=ALONE)
async def test_turns_go_on_from_the_previous_response(case: Case):
    case.call_a_tool()
    model = ChatOpenAI(
        model=case.model,
        base_url=case.gateway.url,
        api_key="none",
        max_retries=0,
        use_responses_api=True,
        use_previous_response_id=True,
    ).bind_tools([LOOK_UP])
    turns: list[Any] = [HumanMessage(case.question)]
    first = await model.ainvoke(turns)
    turns += [first, await LOOK_UP.ainvoke(first.tool_calls[0])]
    second = await model.ainvoke(turns)
    assert second.text == case.said
    assert case.results() == [look_up(case.word)]
    assert case.answering.requests[-1]["messages"][0] == {"role": "user", "content": case.question}
