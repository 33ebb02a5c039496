"""Tools of the Responses API that chat has otherwise or not at all: custom ones, namespaces, and hosted ones."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat.chat_completion_tool_union_param import ChatCompletionToolUnionParam
from openai.types.responses.tool_param import ToolParam
from pydantic import TypeAdapter
from support.chat_streams import MADE, chunk
from support.gateways import Gateway
from support.responses_types import typed_event, typed_response
from support.scripted_server import Reply, Scripted

from gateway.api.responses.completed import to_response
from gateway.api.responses.events import ResponseEvents
from gateway.api.responses.request import to_chat
from gateway.api.responses.tool_names import MAX_NAME, ToolNames
from gateway.api.responses.tools import list_left_out
from gateway.wire.responses import assemble_response

Body = dict[str, Any]

TOOL: TypeAdapter[Any] = TypeAdapter(ToolParam)
CHAT_TOOL: TypeAdapter[Any] = TypeAdapter(ChatCompletionToolUnionParam)

FUNCTION = {"type": "function", "name": "f", "strict": False, "parameters": {"type": "object"}}
CHAT_FUNCTION = {
    "type": "function",
    "function": {"name": "f", "strict": False, "parameters": {"type": "object"}},
}
PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
}
AGENTS = {
    "type": "namespace",
    "name": "agents",
    "description": "Sub-agents.",
    "tools": [
        {"type": "function", "name": "close", "strict": False, "parameters": {"type": "object"}},
        {"type": "function", "name": "spawn", "description": "Starts one.", "defer_loading": True},
    ],
}
SEARCH = {"type": "web_search", "external_web_access": False}


def chat_of(*tools: Body, **fields: Any) -> Body:
    for tool in tools:
        TOOL.validate_python(tool)
    chat = to_chat({"model": "auto", "input": "Hi", "tools": [*tools], **fields})
    for tool in chat.get("tools", ()):
        CHAT_TOOL.validate_python(tool)
    return chat


def answers_to(request: Body, *deltas: Body) -> tuple[list[Body], list[Body]]:
    """The output of a plain answer, and that of a stream with the same deltas, all of official types."""
    chunks = [*[chunk(delta) for delta in deltas], chunk({}, "tool_calls")]
    plain = to_response(assemble_response(chunks, "chat"), request, "resp_1")
    typed_response(plain)
    events = ResponseEvents(request, "resp_1", MADE)
    sent = [*events.begin(), *[event for one in chunks for event in events.chunk(one)], *events.finish()]
    for event in sent:
        typed_event(event)
    return plain["output"], sent[-1]["response"]["output"]


def function_delta(name: str, arguments: str = "{}") -> Body:
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": function}]}


def test_a_custom_tool_is_chats_custom_tool():
    chat = chat_of(
        PATCH, {"type": "custom", "name": "say", "format": {"type": "text"}}, {"type": "custom", "name": "go"}
    )
    grammar = {"syntax": "lark", "definition": "start: /.+/"}
    assert chat["tools"] == [
        {
            "type": "custom",
            "custom": {
                "name": "apply_patch",
                "description": "Edits files.",
                "format": {"type": "grammar", "grammar": grammar},
            },
        },
        {"type": "custom", "custom": {"name": "say", "format": {"type": "text"}}},
        {"type": "custom", "custom": {"name": "go"}},
    ]
    chosen = chat_of(PATCH, tool_choice={"type": "custom", "name": "apply_patch"})["tool_choice"]
    assert chosen == {"type": "custom", "custom": {"name": "apply_patch"}}


def test_a_call_of_a_custom_tool_comes_back_and_goes_in_again():
    request = {"model": "auto", "input": "Hi", "tools": [PATCH]}
    first = {"index": 0, "id": "c1", "type": "custom", "custom": {"name": "apply_patch", "input": ""}}
    rest = [{"index": 0, "custom": {"input": text}} for text in ("*** Begin", " {} ***")]
    plain, streamed = answers_to(request, *[{"tool_calls": [delta]} for delta in (first, *rest)])
    (call,) = plain
    assert plain == streamed
    assert call == {
        "id": "ctc_1_0",
        "type": "custom_tool_call",
        "call_id": "c1",
        "name": "apply_patch",
        "input": "*** Begin {} ***",
    }
    output = {"type": "custom_tool_call_output", "call_id": "c1", "output": "Done."}
    _, assistant, result = chat_of(PATCH, input=[{"role": "user", "content": "Hi"}, call, output])["messages"]
    custom = {"name": "apply_patch", "input": "*** Begin {} ***"}
    assert assistant["tool_calls"] == [{"id": "c1", "type": "custom", "custom": custom}]
    assert result == {"role": "tool", "tool_call_id": "c1", "content": "Done."}


def test_a_namespace_is_its_tools_under_joint_names():
    chat = chat_of(FUNCTION, AGENTS, tool_choice={"type": "function", "name": "spawn"})
    assert chat["tools"] == [
        CHAT_FUNCTION,
        {
            "type": "function",
            "function": {
                "name": "agents__close",
                "strict": False,
                "parameters": {"type": "object"},
                "description": "Sub-agents.",
            },
        },
        {"type": "function", "function": {"name": "agents__spawn", "description": "Starts one."}},
    ]
    assert chat["tool_choice"] == {"type": "function", "function": {"name": "agents__spawn"}}


def test_a_call_in_a_namespace_comes_back_with_it_and_goes_in_again():
    request = {"model": "auto", "input": "Hi", "tools": [FUNCTION, AGENTS]}
    plain, streamed = answers_to(request, function_delta("agents__close"))
    (call,) = plain
    assert plain == streamed
    assert (call["name"], call["namespace"], call["call_id"]) == ("close", "agents", "c1")
    _, assistant = chat_of(FUNCTION, AGENTS, input=[{"role": "user", "content": "Hi"}, call])["messages"]
    assert assistant["tool_calls"][0]["function"] == {"name": "agents__close", "arguments": "{}"}
    (own,), _ = answers_to(request, function_delta("f"))
    assert (own["name"], "namespace" in own) == ("f", False)


NAMES = st.text("ab_.é", min_size=1, max_size=3) | st.text("ab_", min_size=60, max_size=70)


@given(st.lists(st.tuples(NAMES, NAMES), max_size=6, unique=True), st.lists(NAMES, max_size=3))
def test_names_in_chat_are_legal_distinct_and_lead_back(inner: list[tuple[str, str]], outer: list[str]):
    namespaces = {space: [name for each, name in inner if each == space] for space, _ in inner}
    tools: list[Body] = [{"type": "function", "name": name} for name in outer]
    tools += [
        {"type": "namespace", "name": space, "tools": [{"type": "function", "name": name} for name in own]}
        for space, own in namespaces.items()
    ]
    names = ToolNames(tools)
    chat_names = {names.to_chat(name, space): (space, name) for space, name in inner}
    assert len(chat_names) == len(inner)
    assert chat_names.keys().isdisjoint(outer)
    for chat_name, (space, name) in chat_names.items():
        assert len(chat_name) <= MAX_NAME
        assert chat_name.isascii()
        assert chat_name.replace("_", "").isalnum() or not chat_name.strip("_")
        assert names.to_item(chat_name) == {"name": name, "namespace": space}


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        (None, None),
        ("auto", "auto"),
        ("none", "none"),
        ({"type": "function", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [SEARCH, {"type": "function", "name": "f"}]},
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
        ),
        ({"type": "allowed_tools", "mode": "auto", "tools": [SEARCH]}, "none"),
    ],
    ids=str,
)
def test_what_nobody_here_can_run_is_left_out_if_it_need_not_be_called(choice: Any, chosen: Any):
    chat = chat_of(SEARCH, FUNCTION, **({} if choice is None else {"tool_choice": choice}))
    assert chat["tools"] == [CHAT_FUNCTION]
    assert chat.get("tool_choice") == chosen


def test_if_nothing_is_left_of_the_tools_there_are_none():
    assert chat_of(SEARCH, tool_choice="auto", parallel_tool_calls=False).keys() == {"model", "messages"}


def test_what_is_left_out_is_said_once_and_in_characters_of_a_header():
    odd = [{"type": "web\r\nx-forged: 1"}, {"type": "é" * 100}]
    inner = {"type": "namespace", "name": "n", "tools": [{"type": "mcp"}, FUNCTION]}
    left_out = list_left_out({"tools": [SEARCH, FUNCTION, SEARCH, inner, *odd]})
    assert left_out == ["web_search", "mcp", "web__x-forged__1", "_" * 64]
    assert list_left_out({}) == list_left_out({"tools": [FUNCTION, PATCH, AGENTS]}) == []
    assert len(list_left_out({"tools": [{"type": str(number)} for number in range(99)]})) == 16


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a_request_like_codexs_is_answered_and_says_what_was_left_out(
    gateway: Gateway, slm: Scripted, stream: bool
):
    slm.says(Reply(calls=[("agents__close", '{"target": "a"}')]))
    body = {
        "model": "test",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
        "tools": [FUNCTION, AGENTS, SEARCH],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"summary": "auto"},
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "client_metadata": {"turn": "1"},
        "stream": stream,
    }
    status, headers, raw = await gateway.post("/responses", body)
    assert status == 200, raw
    assert headers["x-smallfirst-left-out"] == "web_search"
    assert (await gateway.exchange(headers["x-smallfirst-id"]))["left_out"] == ["web_search"]
    assert b'"namespace":"agents"' in raw
    assert "client_metadata" not in slm.requests[0]
    assert [tool["function"]["name"] for tool in slm.requests[0]["tools"]] == [
        "f",
        "agents__close",
        "agents__spawn",
    ]


async def test_where_nothing_is_left_out_nothing_is_said(gateway: Gateway):
    _, headers, _ = await gateway.post("/responses", {"model": "test", "input": "Hi"})
    assert "x-smallfirst-left-out" not in headers
    assert (await gateway.exchange(headers["x-smallfirst-id"]))["left_out"] == []
