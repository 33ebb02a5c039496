"""Prompts compressed by the small model on real vLLM, which tells what it reads; both surfaces, streams too."""

import pytest
from support.compression_text import QUESTION, SCENE
from support.gateways import StartGateway, settings_of, upstream
from support.scripted_server import Scripted
from support.strategy_requests import assert_well_formed, policy, streamed

from benchmarks.vllm.server import Server
from gateway.settings import Settings
from policies.schema.compress import Compress
from routers.strategies.direct import Direct

pytestmark = [pytest.mark.vllm, pytest.mark.heavy]


async def test_vllm_reads_and_the_large_model_gets_less(
    start: StartGateway, llm: Scripted, vllm_server: Server
):
    section = Compress(target_ratio=0.6, min_tokens=50, worth="always")
    small = {
        "name": "vllm",
        "tier": "slm",
        "url": vllm_server.url,
        "model": vllm_server.model,
        "engine": "vllm",
        "probe": 0,
    }
    settings: Settings = settings_of(small, upstream(llm, "llm"))
    gateway = await start(settings, [policy(Direct(tier="llm", fallback=False), compress=section)])
    body = {"model": "test", "messages": [{"role": "user", "content": f"{SCENE}\n\n{QUESTION}"}]}
    text, chunks, _ = await streamed(gateway, body)
    assert text == "It is cold."
    assert_well_formed(chunks)
    status, headers, _ = await gateway.post("/chat/completions", body)
    assert status == 200
    found = (await gateway.exchange(headers["x-smallfirst-id"]))["skills"]["compress"]
    assert "why" not in found, found
    assert found["tokens_after"] == pytest.approx(found["target"], rel=0.05)
    sent = [request["messages"][0]["content"] for request in llm.requests]
    assert sent[0] == sent[1]
    assert sent[0].endswith(f"\n\n{QUESTION}")
    for fixed in ("1741", "340 metres", '{"wick": [1, 2]}', "seven peacocks"):
        assert fixed in sent[0]
