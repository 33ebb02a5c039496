"""Redaction around a real vLLM."""

from pathlib import Path

import pytest
from support.gateways import StartGateway, settings_of
from support.redaction_check import check_cloaked

from benchmarks.vllm.server import Server

pytestmark = [pytest.mark.vllm, pytest.mark.heavy]


async def test_vllm_gets_placeholders_and_the_client_its_own_words(
    start: StartGateway, vllm_server: Server, tmp_path: Path
):
    fields = {"name": "vllm", "tier": "slm", "engine": "vllm", "probe": 0}
    small = fields | {"url": vllm_server.url, "model": vllm_server.model}
    await check_cloaked(start, settings_of(small), tmp_path)
