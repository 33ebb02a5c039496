"""The key-value cache that is estimated for a token is what vLLM reports of its own."""

import re
from pathlib import Path

import pytest

from benchmarks.vllm.environment import server_environment
from benchmarks.vllm.server import Server
from gateway.local.models.config_geometry import read_config_geometry
from gateway.local.models.memory import KV_BYTES, kv_bytes_per_token
from gateway.local.settings import LocalEngine
from gateway.local.sizing.choice import read_model, size_engine

pytestmark = [pytest.mark.heavy, pytest.mark.vllm]


def test_a_token_takes_the_cache_that_vllm_reports(vllm_server: Server, vllm_models: Path):
    folder = vllm_models / "smollm2"
    (tokens,) = re.findall(r"KV cache size: ([\d,]+) tokens", vllm_server.log.read_text())
    space = int(server_environment()["VLLM_CPU_KVCACHE_SPACE"]) * 2**30
    estimate = kv_bytes_per_token(read_config_geometry(folder), KV_BYTES["f32"])
    assert estimate == pytest.approx(space / int(tokens.replace(",", "")), rel=0.01)


def test_it_is_offered_the_context_of_the_folder(vllm_models: Path):
    folder = vllm_models / "smollm2"
    local = LocalEngine(engine="vllm", model=str(folder), arguments={"dtype": "float32"})
    assert size_engine(local, folder).local.context == 8192
    assert read_model("smollm2", folder).weights_bytes > 5e8
