"""Passages judged on real vLLM, before a stream."""

import pytest
from support.gateways import StartGateway, settings_of, upstream
from support.scripted_server import Scripted

from benchmarks.vllm.server import Server
from policies.schema.policy import Policy
from routers.fragments.passage_filter import PassageFilter
from routers.strategies.direct import Direct

pytestmark = [pytest.mark.vllm, pytest.mark.heavy, pytest.mark.engine]


async def test_passages_are_judged_on_vllm(start: StartGateway, vllm_server: Server, llm: Scripted):
    judge = {
        "name": "vllm",
        "tier": "slm",
        "url": vllm_server.url,
        "model": vllm_server.model,
        "engine": "vllm",
    }
    policy = Policy(name="test", description="x", router=Direct(tier="llm"), filter=PassageFilter(most=1))
    gateway = await start(settings_of(judge | {"probe": 0}, upstream(llm, "llm")), [policy])
    body = {
        "model": "test",
        "messages": [{"role": "user", "content": "Who keeps Oskel Light?"}],
        "stream": True,
        "smallfirst": {"context": ["Old Pesk is a smoked cheese.", "Marta Vey keeps Oskel Light."]},
    }
    status, headers, _ = await gateway.post("/chat/completions", body)
    assert (status, headers["x-smallfirst-filter"]) == (200, "passages=2, kept=1, by=likelihood")
    told = (await gateway.exchange(headers["x-smallfirst-id"]))["skills"]["filter"]
    assert told["order"] == [1]
    assert sum(told["p"]) == pytest.approx(1.0, abs=1e-3)  # two are each other's measure
