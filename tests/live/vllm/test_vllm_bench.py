"""`smallfirst models bench` on the real vLLM: three starts of it, minutes on a CPU."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.vllm.environment import python
from gateway.cli import app

pytestmark = [pytest.mark.vllm, pytest.mark.heavy, pytest.mark.timeout(1800)]

QUESTIONS = """\
Repeat this list exactly three times: apple, pear, plum, cherry, grape, melon.
Copy this sentence four times: The quick brown fox jumps over the lazy dog.
"""


@pytest.fixture
def config(tmp_path: Path, vllm_models: Path) -> Path:
    local = {
        "engine": "vllm",
        "model": str(vllm_models / "smollm2"),
        "python": str(python()),
        "arguments": {"dtype": "float32", "enforce-eager": True},
        "environment": {"VLLM_CPU_KVCACHE_SPACE": "1"},
        "speculative": {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 3},
        "slots": 4,
    }
    path = tmp_path / "smallfirst.yaml"
    path.write_text(json.dumps({"local": local}))
    return path


def test_it_tells_speed_and_acceptance_of_repetitive_answers(config: Path, tmp_path: Path):
    questions = tmp_path / "questions.txt"
    questions.write_text(QUESTIONS)
    words = ["models", "bench", questions, "--config", config, "--max-tokens", 64, "--json"]
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    without, with_it, again = told["runs"]
    assert without["drafted"] == again["drafted"] == 0
    assert with_it["drafted"] >= with_it["accepted"] > 0
    assert with_it["drafted"] <= 4 * with_it["blocks"]
    assert 0.0 < with_it["accept"] <= 1.0
    assert with_it["tokens"] == without["tokens"] == again["tokens"]  # greedy: it changes no text
    assert told["speedup"] > 0.0
