"""Two engines, one confidence: a sample of `python -m benchmarks.engines`."""

from pathlib import Path

import pytest

from benchmarks import engines
from benchmarks.proof import requantised
from benchmarks.vllm.server import Server
from gateway.local.weights.resolution import find_default_weights

pytestmark = [pytest.mark.vllm, pytest.mark.engine, pytest.mark.heavy]

SAMPLE = 10


@pytest.fixture(scope="module")
def half(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default weights in 16 bits."""
    path = tmp_path_factory.mktemp("weights") / "smollm2-135m-instruct.F16.gguf"
    requantised(find_default_weights(weights), path)
    return path


@pytest.fixture(scope="module")
def both(half: Path, vllm_server: Server) -> tuple[list[engines.Answer], list[engines.Answer]]:
    prompts = engines.held_out(SAMPLE)
    there = engines.asked(engines.on_vllm(vllm_server.url, vllm_server.model), prompts)
    return engines.asked(engines.on_llamacpp(half), prompts), there


def test_vllm_and_llama_cpp_agree_within_the_tolerance(
    both: tuple[list[engines.Answer], list[engines.Answer]],
):
    found = engines.compared(*both, engines.policy_auto())
    assert found["prompts"] == SAMPLE
    assert found["equal_texts"] >= SAMPLE - 1
    assert found["logprob"]["n"] > 10 * SAMPLE
    assert found["logprob"]["max"] <= engines.TOLERANCE["logprob"]
    assert found["signal_max"] <= engines.TOLERANCE["signal"]
    assert found["running_confidence"]["max"] <= engines.TOLERANCE["confidence"]
    assert found["confidence"]["max"] <= engines.TOLERANCE["confidence"]


def test_only_vllm_lists_the_token_that_ends_an_answer(
    both: tuple[list[engines.Answer], list[engines.Answer]],
):
    here, there = both
    assert [token.text for answer in here for token in answer.end] == []
    stopped = [answer for answer in there if answer.finish == "stop"]
    assert stopped
    assert {token.text for answer in stopped for token in answer.end} == {"<|im_end|>"}


def test_under_a_schema_only_vllm_shares_the_probability_among_what_may_come(half: Path, vllm_server: Server):
    """Signals of constrained answers of one engine are none of the other's: see docs/engines.md."""
    raw = engines.constrained(engines.on_llamacpp(half))
    masked = engines.constrained(engines.on_vllm(vllm_server.url, vllm_server.model))
    assert "Paris" in raw["text"]
    assert "Paris" in masked["text"]
    assert masked["likeliest_first"] > 0.999 > raw["likeliest_first"]
    assert raw["mean"] < masked["mean"] - 1
