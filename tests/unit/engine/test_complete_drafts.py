"""A request that asks for tools or a schema is served only what was checked whole."""

import asyncio
import json
from typing import Any

import pytest
from support.gateways import Gateway
from support.scripted_server import Reply, Scripted
from support.strategy_requests import ASK, SENTENCE, SURE, chunks_of, figures_of

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def calling(name: str, arguments: str) -> Reply:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": name, "arguments": ""}}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}, {"tool_calls": [call]}]
    deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in arguments]
    events = []
    for delta in deltas:
        token = next(iter((delta.get("tool_calls") or [{}])[0].get("function", {}).values()), "")
        logprobs = {"content": [scored(token or "call")]}
        choice = {"index": 0, "delta": delta, "finish_reason": None, "logprobs": logprobs}
        events.append({"id": "u", "object": "chat.completion.chunk", "created": 1, "choices": [choice]})
    done = {"index": 0, "delta": {}, "finish_reason": "tool_calls"}
    events.append({"id": "u", "object": "chat.completion.chunk", "created": 1, "choices": [done]})
    raw = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    return Reply(raw=raw + b"data: [DONE]\n\n")


def scored(token: str) -> dict[str, Any]:
    tops = [{"token": token, "logprob": SURE}, {"token": "?", "logprob": -5.0}]
    return {"token": token, "logprob": SURE, "top_logprobs": tops}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("weather", '{"city": "Rome"}', "confident"),
        ("weather", '{"town": "Rome"}', "tool_arguments"),
        ("weather", '{"city": ', "tool_arguments"),
        ("wether", '{"city": "Rome"}', "tool_not_offered"),
    ],
)
async def test_only_a_sound_tool_call_of_the_small_model_is_served(
    gateway: Gateway, slm: Scripted, llm: Scripted, stream: bool, name: str, arguments: str, reason: str
):
    slm.says(calling(name, arguments))
    _, headers, raw = await gateway.post("/chat/completions", ASK | {"tools": [TOOL], "stream": stream})
    found = await gateway.exchange(headers["x-smallfirst-id"])
    assert (found["route"], found["reason"]) == ("slm" if reason == "confident" else "llm", reason)
    if reason != "confident":
        assert b"weather" not in raw
        assert b"wether" not in raw
    elif stream:
        parts = [chunk["choices"][0]["delta"].get("tool_calls") or [] for chunk in chunks_of(raw)]
        assert "".join(part["function"]["arguments"] for call in parts for part in call) == arguments
    else:
        (call,) = json.loads(raw)["choices"][0]["message"]["tool_calls"]
        assert (call["function"]["name"], call["function"]["arguments"]) == (name, arguments)


@pytest.mark.parametrize("indexed", [True, False])
async def test_calls_that_come_whole_in_one_chunk_beside_text_are_told_apart(
    gateway: Gateway, slm: Scripted, llm: Scripted, indexed: bool
):
    """As some servers send them, with and without the index of each."""
    calls = [
        {
            "id": f"c{at}",
            "type": "function",
            "function": {"name": "weather", "arguments": f'{{"city": "{city}"}}'},
        }
        for at, city in enumerate(("Rome", "Oslo"))
    ]
    if indexed:
        calls = [{"index": at, **call} for at, call in enumerate(calls)]
    delta = {"role": "assistant", "content": "Looking.", "tool_calls": calls}
    choice = {
        "index": 0,
        "delta": delta,
        "finish_reason": "tool_calls",
        "logprobs": {"content": [scored("c")]},
    }
    event = {"id": "u", "object": "chat.completion.chunk", "created": 1, "choices": [choice]}
    slm.says(Reply(raw=b"data: " + json.dumps(event).encode() + b"\n\ndata: [DONE]\n\n"))
    _, headers, raw = await gateway.post("/chat/completions", ASK | {"tools": [TOOL]})
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("slm", "confident")
    found = json.loads(raw)["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["arguments"] for call in found] == ['{"city": "Rome"}', '{"city": "Oslo"}']


SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "cold",
        "schema": {"type": "object", "properties": {"cold": {"type": "boolean"}}, "required": ["cold"]},
    },
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"cold": true}', "confident"),
        ('{"cold": 1}', "schema_mismatch"),
        ('{"cold": tru', "invalid_json"),
        ("Yes.", "invalid_json"),
    ],
)
async def test_only_a_draft_that_meets_the_schema_is_served(
    gateway: Gateway, slm: Scripted, llm: Scripted, stream: bool, text: str, reason: str
):
    slm.says(Reply(text, logprobs=SURE))
    body = ASK | {"response_format": SCHEMA, "stream": stream}
    _, headers, _ = await gateway.post("/chat/completions", body)
    assert (await gateway.exchange(headers["x-smallfirst-id"]))["reason"] == reason


async def test_a_draft_that_must_be_whole_commits_nothing_early(
    gateway: Gateway, slm: Scripted, llm: Scripted
):
    gate = asyncio.Event()
    slm.says(Reply(f"{SENTENCE} And no JSON.", logprobs=SURE, gate=gate, gate_at=8))
    asking = asyncio.ensure_future(
        gateway.post("/chat/completions", ASK | {"response_format": {"type": "json_object"}, "stream": True})
    )
    await slm.arrived.wait()
    gate.set()
    _, _, raw = await asking
    assert b"Ice" not in raw
    assert figures_of(raw)["reason"] == "invalid_json"
