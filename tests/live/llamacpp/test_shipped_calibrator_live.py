"""A model that has a calibrator in the install, given by its path, on the real llama.cpp."""

from pathlib import Path

import pytest
from support.gateways import StartGateway

from gateway.settings import LocalEngine, Settings

pytestmark = [pytest.mark.engine, pytest.mark.heavy]

ASK = {
    "model": "auto",
    "messages": [{"role": "user", "content": "What is the capital of France? Answer with one word."}],
    "max_tokens": 8,
    "temperature": 0,
}


async def test_a_model_by_its_path_is_calibrated_under_all_built_in_policies(
    start: StartGateway, weights: Path
):
    model = weights / "qwen2.5-coder-1.5b-instruct.Q4_K_M.gguf"
    if not model.is_file():
        pytest.skip("the 1.5B model is not here: make weights")
    gateway = await start(Settings(local=LocalEngine(threads=1, model=str(model))))
    for policy in ("auto", "balanced", "careful", "frugal", "private"):
        status, headers, raw = await gateway.post("/chat/completions", ASK | {"model": policy})
        assert (status, headers["x-smallfirst-route"]) == (200, "slm")
        assert "x-smallfirst-confidence" in headers
        assert "x-smallfirst-calibration" not in headers
        assert b"Paris" in raw
