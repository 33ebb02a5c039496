"""The official client, unchanged, against a server that answers with nothing but the translation."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from aiohttp import web
from pydantic import BaseModel
from support.chat_streams import MADE, call, chunk, entry, usage_chunk
from support.gateways import client_of
from support.responses_types import typed_event, typed_response

from gateway.api.responses.completed import to_response
from gateway.api.responses.events import ResponseEvents, encode
from gateway.api.responses.request import to_chat
from gateway.errors import ApiError
from gateway.wire.responses import assemble_response

Body = dict[str, Any]

START = chunk({"role": "assistant", "content": ""})
COLD = [START, chunk({"content": "It is"}), chunk({"content": " cold."}), chunk({}, "stop"), usage_chunk()]


class Answering:
    """Says the same chat chunks to every request; `breaks` ends streams in an error instead of `finish`."""

    def __init__(self) -> None:
        self.chunks = COLD
        self.breaks = False
        self.chat: Body = {}
        self.client = client_of("http://127.0.0.1/v1")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        try:
            self.chat = to_chat(body)
        except ApiError as error:
            return web.json_response(error.body(), status=error.status)
        if not body.get("stream"):
            return web.json_response(to_response(assemble_response(self.chunks, "chat"), body, "resp_1"))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"".join(encode(event) for event in self._events(body)))
        return response

    def _events(self, body: Body) -> list[Body]:
        events = ResponseEvents(body, "resp_1", MADE)
        sent = [*events.begin(), *[event for one in self.chunks for event in events.chunk(one)]]
        return [*sent, *(events.fail("gone", "upstream_lost") if self.breaks else events.finish())]


@pytest.fixture
async def server() -> AsyncIterator[Answering]:
    answering, app = Answering(), web.Application()
    app.router.add_post("/v1/responses", answering.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    answering.client.base_url = f"http://{host}:{port}/v1"
    yield answering
    await answering.client.close()
    await runner.cleanup()


class Opposite(BaseModel):
    word: str


class Look(BaseModel):
    """Looks a word up."""

    word: str


ASK: Body = {"model": "auto", "input": "What is the opposite of hot?"}
JSON = [START, chunk({"content": '{"word": '}), chunk({"content": '"cold"}'}), chunk({}, "stop")]
CALLS = [
    START,
    chunk({"content": "Let me see."}),
    chunk(call(0, "", "Look")),
    chunk(call(0, '{"word":')),
    chunk(call(0, '"hot"}')),
    chunk(call(1, '{"word":"cold"}', "Look")),
    chunk({}, "tool_calls"),
    usage_chunk(),
]


async def test_a_plain_response(server: Answering):
    response = await server.client.responses.create(**ASK)
    assert typed_response(response.to_dict()) == response
    assert (response.status, response.output_text, response.model) == ("completed", "It is cold.", "small")
    assert response.usage is not None
    assert response.usage.input_tokens_details.cached_tokens == 4
    assert server.chat == {"model": "auto", "messages": [{"role": "user", "content": ASK["input"]}]}


async def test_a_stream(server: Answering):
    events = [event async for event in await server.client.responses.create(**ASK, stream=True)]
    assert [typed_event(event.to_dict()) for event in events] == events
    assert (
        "".join(event.delta for event in events if event.type == "response.output_text.delta")
        == "It is cold."
    )
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response == await server.client.responses.create(**ASK)


@pytest.mark.parametrize(
    "chunks", [COLD, CALLS, [chunk({"reasoning": "Hm."}), *COLD]], ids=["text", "calls", "reasoning"]
)
async def test_the_stream_helper_gathers_the_plain_response(server: Answering, chunks: list[Body]):
    server.chunks = chunks
    snapshot = ""
    async with server.client.responses.stream(**ASK) as stream:
        async for event in stream:
            snapshot = event.snapshot if event.type == "response.output_text.delta" else snapshot
        final = await stream.get_final_response()
    plain = await server.client.responses.create(**ASK)
    assert final.output_text == plain.output_text == snapshot
    assert [item.type for item in final.output] == [item.type for item in plain.output]
    assert final.usage == plain.usage


async def test_structured_output_is_parsed_plain_and_streamed(server: Answering):
    server.chunks = JSON
    plain = await server.client.responses.parse(**ASK, text_format=Opposite)
    assert plain.output_parsed == Opposite(word="cold")
    assert server.chat["response_format"]["type"] == "json_schema"
    assert server.chat["response_format"]["json_schema"]["name"] == "Opposite"
    parsed: list[Any] = []
    async with server.client.responses.stream(**ASK, text_format=Opposite) as stream:
        async for event in stream:
            parsed += [event.parsed] if event.type == "response.output_text.done" else []
        final = await stream.get_final_response()
    assert [*parsed, final.output_parsed] == [Opposite(word="cold")] * 2


async def test_tool_calls_are_parsed_plain_and_streamed(server: Answering):
    server.chunks = CALLS
    tools: Any = [openai.pydantic_function_tool(Look)]
    plain = await server.client.responses.parse(**ASK, tools=tools)
    assert server.chat["tools"][0]["function"]["name"] == "Look"
    snapshots: list[str] = []
    async with server.client.responses.stream(**ASK, tools=tools) as stream:
        async for event in stream:
            snapshots += [event.snapshot] if event.type == "response.function_call_arguments.delta" else []
        streamed = await stream.get_final_response()
    assert snapshots == ['{"word":', '{"word":"hot"}', '{"word":"cold"}']
    for found in (plain, streamed):
        calls = [item for item in found.output if item.type == "function_call"]
        assert [item.parsed_arguments for item in calls] == [Look(word="hot"), Look(word="cold")]
        assert [item.call_id for item in calls] == ["call_Look_0", "call_Look_1"]


async def test_a_responses_output_and_the_tools_results_go_back_as_input(server: Answering):
    server.chunks = CALLS
    first = await server.client.responses.create(**ASK)
    results = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "found"}
        for item in first.output
        if item.type == "function_call"
    ]
    turn: Any = [{"role": "user", "content": ASK["input"]}, *first.output, *results]
    await server.client.responses.create(model="auto", input=turn)
    user, assistant, *outputs = server.chat["messages"]
    assert (user["content"], assistant["content"]) == (ASK["input"], "Let me see.")
    assert [one["function"]["arguments"] for one in assistant["tool_calls"]] == [
        '{"word":"hot"}',
        '{"word":"cold"}',
    ]
    assert [one["tool_call_id"] for one in outputs] == ["call_Look_0", "call_Look_1"]
    assert {one["content"] for one in outputs} == {"found"}


async def test_logprobs_are_those_of_the_text_plain_and_streamed(server: Answering):
    server.chunks = [chunk({"content": word}, logprobs={"content": [entry(word)]}) for word in ("It", " is")]
    ask: Body = ASK | {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
    plain = await server.client.responses.create(**ask)
    assert (server.chat["logprobs"], server.chat["top_logprobs"]) == (True, 1)
    events = [event async for event in await server.client.responses.create(**ask, stream=True)]
    streamed = [event.logprobs[0].token for event in events if event.type == "response.output_text.delta"]
    content = plain.output[0].content[0]
    assert [token.token for token in content.logprobs] == streamed == ["It", " is"]


async def test_an_answer_that_was_cut_off_is_incomplete(server: Answering):
    server.chunks = [START, chunk({"content": "It"}), chunk({}, "length")]
    events = [event async for event in await server.client.responses.create(**ASK, stream=True)]
    last = events[-1]
    assert last.type == "response.incomplete"
    assert last.response == await server.client.responses.create(**ASK)
    assert last.response.incomplete_details is not None
    assert last.response.incomplete_details.reason == "max_output_tokens"


async def test_a_refusal_is_read_plain_and_streamed(server: Answering):
    server.chunks = [START, chunk({"refusal": "I can"}), chunk({"refusal": "not."}), chunk({}, "stop")]
    plain = await server.client.responses.parse(**ASK, text_format=Opposite)
    async with server.client.responses.stream(**ASK, text_format=Opposite) as stream:
        streamed = await stream.get_final_response()
    for found in (plain, streamed):
        assert found.output_parsed is None
        assert found.output[0].content[0].refusal == "I cannot."


async def test_a_stream_that_breaks_off_says_so_and_has_no_final_response(server: Answering):
    server.chunks, server.breaks = COLD[:2], True
    events = [event async for event in await server.client.responses.create(**ASK, stream=True)]
    assert [event.type for event in events[-2:]] == ["error", "response.failed"]
    assert events[-2].code == "upstream_lost"
    assert events[-1].response.error.message == "gone"
    async with server.client.responses.stream(**ASK) as stream:
        with pytest.raises(RuntimeError, match="Didn't receive"):
            await stream.get_final_response()


async def test_what_is_refused_is_the_clients_own_exception(server: Answering):
    with pytest.raises(openai.BadRequestError) as caught:
        await server.client.responses.create(**ASK, tools=[{"type": "web_search"}], tool_choice="required")
    assert (caught.value.code, caught.value.param) == ("not_supported", "tools[0].type")
    with pytest.raises(openai.BadRequestError, match="no conversation is stored"):
        await server.client.responses.create(**ASK, conversation="conv_0")
