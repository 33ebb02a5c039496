"""Tools on the real llama.cpp: SmolLM2's chat template leaves them out, that of the 1.5B model does not."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.gateways import Gateway, StartGateway, settings_of, upstream
from support.scripted_server import Scripted

from gateway.settings import LocalEngine, Settings

pytestmark = [pytest.mark.engine, pytest.mark.heavy]

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CUSTOM = {"type": "custom", "custom": {"name": "run"}}
ASK: dict[str, Any] = {
    "model": "auto",
    "messages": [{"role": "user", "content": "Look at the sea."}],
    "max_tokens": 40,
    "temperature": 0,
}


async def refusal(gateway: Gateway, **more: Any) -> tuple[int, str, str]:
    status, _, raw = await gateway.post("/chat/completions", ASK | more)
    error = json.loads(raw)["error"]
    return status, error["code"], error["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_go_to_the_large_model(start: StartGateway, llm: Scripted, weights: Path, stream: bool):
    gateway = await start(Settings(local=LocalEngine(threads=1), upstreams=(upstream(llm, "llm"),)))
    for tool in (TOOL, CUSTOM):
        _, headers, _ = await gateway.post("/chat/completions", ASK | {"tools": [tool], "stream": stream})
        assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("llm", "not_capable")
    assert [body["tools"] for body in llm.requests] == [[TOOL], [CUSTOM]]


async def test_alone_the_engine_says_that_it_has_none(start: StartGateway, weights: Path):
    gateway = await start(Settings(local=LocalEngine(threads=1)))
    assert not gateway.upstream("slm").doubts_tools  # it is known before the first request
    for model in ("auto", "offline"):
        status, code, message = await refusal(gateway, model=model, tools=[TOOL])
        assert (status, code) == (400, "not_supported")
        assert "chat template leaves them out" in message
    assert (await refusal(gateway, tools=[CUSTOM]))[:2] == (400, "not_supported")
    assert (await gateway.post("/chat/completions", ASK))[0] == 200


async def test_a_server_of_ones_own_is_asked_too(start: StartGateway, llm: Scripted, weights: Path):
    engine = (await start(Settings(local=LocalEngine(threads=1)))).upstream("slm")
    small = {
        "name": "own",
        "tier": "slm",
        "url": engine.url("chat").removesuffix("/chat/completions"),
        "model": engine.model,
        "engine": "llamacpp",
        "headers": {"Authorization": engine.probe.headers["Authorization"]},
        "probe": 0,
    }
    gateway = await start(settings_of(small, upstream(llm, "llm")))
    _, headers, _ = await gateway.post("/chat/completions", ASK | {"tools": [TOOL]})
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("llm", "not_capable")


async def test_a_template_that_shows_tools_keeps_them(start: StartGateway, weights: Path):
    model = weights / "qwen2.5-coder-1.5b-instruct.Q4_K_M.gguf"
    if not model.is_file():
        pytest.skip("the 1.5B model is not here: make weights")
    gateway = await start(Settings(local=LocalEngine(threads=1, model=str(model))))
    engine = gateway.upstream("slm")
    assert (engine.doubts_tools, "tools" in engine.capability_names) == (False, True)
    body = ASK | {"model": "offline", "tools": [TOOL], "max_tokens": 8}
    assert (await gateway.post("/chat/completions", body))[0] == 200
