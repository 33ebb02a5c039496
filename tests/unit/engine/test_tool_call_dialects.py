"""Tool calls of servers that number, name or write them otherwise than OpenAI: relayed, watched, and as responses."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from support.gateways import Gateway, StartGateway, settings_of, simple_policy, upstream
from support.scripted_server import Reply, Scripted, logprobs_of
from support.strategy_requests import ASK, chunks_of, policy
from support.tool_call_streams import SentCalls, joined_calls, tool_call_streams

from gateway.api.responses.events import ResponseEvents
from gateway.engine.attempt import Attempt
from gateway.engine.streams.passthrough import PassthroughStream
from gateway.engine.streams.watched import WatchedStream
from gateway.exchange.call import Call
from gateway.exchange.exchange import Exchange
from gateway.wire.body_types import Body, Event, read_event
from routers import router
from routers.cost import FREE
from routers.plan import Generate
from routers.strategies.direct import Direct
from routers.watch import ObservingWatch

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
RESPONSES_TOOL = {"type": "function", **TOOL["function"]}  # type: ignore[dict-item]
ALWAYS_SLM = policy(Direct(tier="slm"))


class Arrived:
    """A response whose body has arrived."""

    status, waited_s = 200, 0.0
    headers: Mapping[str, str] = {}

    def __init__(self, chunks: list[Body]) -> None:
        events = [b"data: " + orjson.dumps(each) + b"\n\n" for each in chunks]
        self._left = iter([*events, b"data: [DONE]\n\n"])

    async def read(self) -> bytes:
        return b"".join(self._left)

    async def next(self, gap: float | None = None) -> bytes:
        return next(self._left, b"")

    def close(self) -> None:
        pass


class Client:
    """Takes an answer and reads its chunks."""

    begun = False

    def __init__(self) -> None:
        self.chunks: list[Body] = []

    async def events(self, events: Sequence[Event]) -> None:
        self.chunks += map(read_event, events)

    async def raw(self, data: bytes) -> None:
        self.chunks += [orjson.loads(line[6:]) for line in data.split(b"\n") if line.startswith(b"data: ")]

    async def response(self, body: bytes) -> None:
        raise AssertionError("the answer is a stream")


def exchange_and_attempt() -> tuple[Exchange, Attempt]:
    exchange = Exchange("chat", "chat", ALWAYS_SLM, {"messages": []}, b"", router.Request(stream=True), None)
    call = Call(Generate("slm"), "slm", "small", "small", FREE, 0.0, 0)
    return exchange, Attempt(None, call, None, is_last=True)  # type: ignore[arg-type]


@given(tool_call_streams())
async def test_a_relayed_stream_has_the_calls_that_the_server_means(sent: SentCalls):
    client = Client()
    await PassthroughStream(*exchange_and_attempt(), client).read(Arrived(sent.chunks))
    assert joined_calls(client.chunks) == sent.calls


@given(tool_call_streams())
async def test_a_watched_draft_and_its_stream_have_the_calls_that_the_server_means(sent: SentCalls):
    client = Client()
    reader = WatchedStream(*exchange_and_attempt(), client, ObservingWatch())
    draft = await reader.read(Arrived(sent.chunks))
    await reader.release_all(client)
    assert [(call.name, call.arguments) for call in draft.tool_calls] == [call[1:] for call in sent.calls]
    assert joined_calls(client.chunks) == sent.calls


@given(tool_call_streams())
async def test_the_responses_api_has_the_calls_that_the_server_means(sent: SentCalls):
    events = ResponseEvents({"model": "m", "input": "x"}, "resp_1", 0)
    made = [
        *events.begin(),
        *[event for each in sent.chunks for event in events.chunk(each)],
        *events.finish(),
    ]
    items = [item for item in made[-1]["response"]["output"] if item["type"] == "function_call"]
    assert [(item["name"], item["arguments"]) for item in items] == [call[1:] for call in sent.calls]
    for item, (call_id, _, _) in zip(items, sent.calls, strict=True):
        assert item["call_id"] == (call_id or item["id"].replace("fc_", "call_"))


def delta(*calls: Body) -> Body:
    return {"tool_calls": [*calls]}


def call(arguments: Any, index: int | None = 0, **more: Any) -> Body:
    function = {"name": "get_weather", "arguments": arguments}
    return {"type": "function", **({} if index is None else {"index": index}), **more, "function": function}


PARIS, ROME = '{"city":"Paris"}', '{"city":"Rome"}'
DIALECTS: dict[str, list[Body]] = {
    "0 for all calls": [delta(call(PARIS, id="a")), delta(call(ROME, id="b"))],
    "no index": [delta(call(PARIS, None, id="a")), delta(call(ROME, None, id="b"))],
    "no index, in one chunk": [delta(call(PARIS, None, id="a"), call(ROME, None, id="b"))],
    "all of it in each delta": [
        *[delta(call(piece, id="a")) for piece in ("", '{"city":', '"Paris"}')],
        *[delta(call(piece, 1, id="b")) for piece in ("", '{"city":', '"Rome"}')],
    ],
    "arguments as an object": [
        delta(call({"city": "Paris"}, id="a")),
        delta(call({"city": "Rome"}, 1, id="b")),
    ],
}


def stream(deltas: list[Body]) -> Reply:
    whole = {"id": "up-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choices = [
        {"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": None},
        *[
            {"index": 0, "delta": each, "finish_reason": None, "logprobs": logprobs_of("x", -0.01)}
            for each in deltas
        ],
        {"index": 0, "delta": {}, "finish_reason": "tool_calls"},
    ]
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    events = [*[whole | {"choices": [choice]} for choice in choices], whole | {"choices": [], "usage": usage}]
    lines = [f"data: {json.dumps(event, separators=(',', ':'))}\n\n" for event in events]
    return Reply(raw="".join([*lines, "data: [DONE]\n\n"]).encode())


@pytest.fixture
async def served(start: StartGateway, slm: Scripted, llm: Scripted) -> Gateway:
    direct = policy(Direct(tier="slm", fallback=False)).replace(name="relayed")
    return await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [simple_policy(), direct])


@pytest.mark.parametrize("model", ["test", "relayed"])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_client_gets_two_calls_in_every_dialect(
    served: Gateway, slm: Scripted, llm: Scripted, dialect: str, model: str
):
    slm.says(stream(DIALECTS[dialect]))
    body = ASK | {"model": model, "tools": [TOOL]}
    _, _, raw = await served.post("/chat/completions", body | {"stream": True})
    assert joined_calls(chunks_of(raw)) == [("a", "get_weather", PARIS), ("b", "get_weather", ROME)]
    asked = {"model": model, "input": "Is it cold?", "tools": [RESPONSES_TOOL], "stream": True}
    _, _, raw = await served.post("/responses", asked)
    last = json.loads(raw.split(b"data: ")[-1])
    assert last["type"] == "response.completed"
    found = [(item["call_id"], item["name"], item["arguments"]) for item in last["response"]["output"]]
    assert found == [("a", "get_weather", PARIS), ("b", "get_weather", ROME)]
    assert llm.requests == []


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_draft_that_is_answered_whole_has_two_calls(
    served: Gateway, slm: Scripted, llm: Scripted, dialect: str
):
    slm.says(stream(DIALECTS[dialect]))
    _, headers, raw = await served.post("/chat/completions", ASK | {"tools": [TOOL]})
    calls = json.loads(raw)["choices"][0]["message"]["tool_calls"]
    assert [(one["id"], one["function"]["arguments"]) for one in calls] == [("a", PARIS), ("b", ROME)]
    assert (headers["x-smallfirst-route"], llm.requests) == ("slm", [])


async def test_a_plain_answer_with_arguments_as_an_object_has_text(served: Gateway, slm: Scripted):
    message = {"role": "assistant", "content": None, "tool_calls": [call({"city": "Paris"}, None, id="a")]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    slm.says(Reply(body={"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}))
    _, _, raw = await served.post("/chat/completions", ASK | {"model": "relayed", "tools": [TOOL]})
    (found,) = json.loads(raw)["choices"][0]["message"]["tool_calls"]
    assert found["function"] == {"name": "get_weather", "arguments": PARIS}
    body = {"model": "relayed", "input": "Is it cold?", "tools": [RESPONSES_TOOL]}
    _, _, raw = await served.post("/responses", body)
    (item,) = json.loads(raw)["output"]
    assert (item["status"], item["arguments"]) == ("completed", PARIS)
