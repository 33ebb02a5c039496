"""The guard with real vLLM as its judge."""

import pytest
from support.gateways import StartGateway, settings_of
from support.guard_check import assert_guards

from benchmarks.vllm.server import Server

pytestmark = [pytest.mark.vllm, pytest.mark.heavy]


async def test_vllm_judges(start: StartGateway, vllm_server: Server):
    fields = {
        "name": "vllm",
        "tier": "slm",
        "url": vllm_server.url,
        "model": vllm_server.model,
        "engine": "vllm",
    }
    await assert_guards(start, settings_of(fields | {"probe": 0}))
