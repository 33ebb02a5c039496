"""A request that demands a tool call demands it of the large model too, whatever the small one has drafted.

llama.cpp's server does not enforce the demand for every chat template: with Qwen2.5-Coder it writes the call as text.
The gateway's part is that the demand arrives.
"""

from typing import Any

import pytest
from support.gateways import Gateway
from support.scripted_server import Reply, Scripted

TOOL = {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}}
CHAT = {
    "model": "test",
    "messages": [{"role": "user", "content": "Is ice cold?"}],
    "tools": [{"type": "function", "function": TOOL}],
}
RESPONSES = {"model": "test", "input": "Is ice cold?", "tools": [{"type": "function", **TOOL}]}
FORCED_CHAT = {"type": "function", "function": {"name": "look"}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body", "choice", "expected"),
    [
        ("/chat/completions", CHAT, "required", "required"),
        ("/chat/completions", CHAT, FORCED_CHAT, FORCED_CHAT),
        ("/responses", RESPONSES, "required", "required"),
        ("/responses", RESPONSES, {"type": "function", "name": "look"}, FORCED_CHAT),
    ],
)
async def test_the_demand_reaches_both_models(
    gateway: Gateway,
    slm: Scripted,
    llm: Scripted,
    path: str,
    body: Any,
    choice: Any,
    expected: Any,
    stream: bool,
):
    slm.says("I need no tool.")
    llm.says(Reply(calls=[("look", '{"at": "ice"}')]))
    status, _, raw = await gateway.post(path, body | {"tool_choice": choice, "stream": stream})
    assert status == 200, raw
    assert b'"look"' in raw
    for server in (slm, llm):
        assert [request["tool_choice"] for request in server.requests] == [expected]
        assert server.requests[0]["tools"][0]["function"]["name"] == "look"
