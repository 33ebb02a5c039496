"""Real vLLM judges what it is sent."""

import pytest
from support.evaluators_check import judged_by_a_real_model
from support.gateways import StartGateway, settings_of, upstream
from support.scripted_server import Scripted

from benchmarks.vllm.server import Server

pytestmark = [pytest.mark.vllm, pytest.mark.heavy]


async def test_vllm_judges_what_it_is_sent(start: StartGateway, llm: Scripted, vllm_server: Server):
    small = {"name": "vllm", "tier": "slm", "url": vllm_server.url, "model": vllm_server.model}
    gateway = await start(settings_of(small | {"engine": "vllm", "probe": 0}, upstream(llm, "llm")))
    results = await judged_by_a_real_model(gateway)
    assert results[0]["measured"] is None  # nobody has measured it on vLLM
