"""The memory that is estimated is what llama.cpp reports when it has loaded the model."""

from pathlib import Path

import pytest
from support.llamacpp_buffers import read_buffers

from gateway.local.models.gguf_geometry import read_gguf_geometry
from gateway.local.models.memory import KV_BYTES, estimate_memory
from gateway.settings import Settings

MIB = 2**20
SMALL = "SmolLM2-135M-Instruct.Q4_1.gguf"
LARGE = "qwen2.5-coder-1.5b-instruct.Q4_K_M.gguf"


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("file", "context", "slots", "kv_type"),
    [
        (SMALL, 8192, 2, "f16"),
        (SMALL, 2048, 4, "q8_0"),
        (LARGE, 8192, 1, "f16"),
        (LARGE, 1000, 2, "q4_0"),
    ],
)
def test_the_estimate_is_within_a_tenth_of_the_report(file: str, context: int, slots: int, kv_type: str):
    path: Path = Settings().models_folder / file
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    reported = read_buffers(path, context, slots, kv_type)
    estimate = estimate_memory(
        read_gguf_geometry(path), path.stat().st_size, context, slots, KV_BYTES[kv_type]
    )
    assert estimate.weights / MIB == pytest.approx(reported["model"], rel=0.1)
    assert estimate.kv_cache / MIB == pytest.approx(reported["KV"], rel=0.1)
    assert estimate.activations / MIB == pytest.approx(reported["compute"], rel=0.1)
    assert estimate.total / MIB == pytest.approx(sum(reported.values()), rel=0.1)
