"""`models pull` and `rm`, and `serve` of a model that is absent, as they are typed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from support.gateway_process import free_port
from support.loopback_hub import LoopbackHub, run_hub, use_hub
from typer.testing import CliRunner

from gateway.cli import app

GGUF = b"GGUF" + b"weights" * 100


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMALLFIRST_MODELS_FOLDER", str(tmp_path / "models"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with run_hub() as running:
        use_hub(monkeypatch, running.url, tmp_path / "hf")
        running.add("smollm/test-GGUF", {"test.Q4_1.gguf": GGUF, "test.Q8_0.gguf": b"GGUF8"})
        yield running


def run(*arguments: object, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=answer)


def test_a_model_is_pulled_and_removed(hub: LoopbackHub, tmp_path: Path):
    result = run("models", "pull", "smollm/test-GGUF:Q4_1")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"test-Q4_1  {tmp_path}/hf/hub/models--smollm--test-GGUF/snapshots/")
    assert "704 B, licence: apache-2.0" in result.stderr
    (snapshot,) = (tmp_path / "hf" / "hub").glob("models--*/snapshots/*/test.Q4_1.gguf")
    refused = run("models", "rm", "smollm/test-GGUF:Q4_1", answer="n\n")
    assert refused.exit_code == 1
    assert "nothing was deleted" in refused.stderr
    assert str(snapshot) in refused.stdout
    assert snapshot.is_file()
    assert run("models", "rm", "smollm/test-GGUF:Q4_1", "--yes").exit_code == 0
    assert not snapshot.exists()
    again = run("models", "rm", "smollm/test-GGUF:Q4_1", "--yes")
    assert again.exit_code == 2
    assert "the weights of smollm/test-GGUF:Q4_1 are not here" in again.stderr


def test_check_contacts_nothing(hub: LoopbackHub, tmp_path: Path):
    (tmp_path / "smallfirst.yaml").write_text("local: {model: 'smollm/test-GGUF:Q4_1'}\n")
    result = run("check")
    assert result.exit_code == 2
    assert "fetch them with: smallfirst models pull smollm/test-GGUF:Q4_1" in result.stderr
    assert hub.requests == []
    assert run("models", "pull", "smollm/test-GGUF:Q4_1").exit_code == 0
    hub.requests.clear()
    assert run("check").exit_code == 0
    assert hub.requests == []


def test_a_name_of_an_engine_or_of_none_is_explained(hub: LoopbackHub):
    result = run("serve", "--slm", "smolm2")
    assert result.exit_code == 2
    assert "did you mean smollm2" in result.stderr
    assert hub.requests == []


def test_serve_of_a_model_that_cannot_be_fetched_ends_with_a_sentence(hub: LoopbackHub):
    result = run("serve", "--port", free_port(), "--slm", "smollm/test-GGUF:Q5_0")
    assert result.exit_code == 2
    assert "has no quantisation Q5_0; there are: Q4_1, Q8_0; name one, as in" in result.stderr


def test_the_variables_of_hugging_face_are_read_and_no_secret_is_printed(tmp_path: Path):
    with run_hub() as hub:
        hub.add("meta/m-GGUF", {"m-Q4_0.gguf": GGUF}, gated=True)
        variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_may_not_read"}
        result = subprocess.run(
            [sys.executable, "-m", "gateway.cli", "models", "pull", "meta/m-GGUF"],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])} | variables,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (result.returncode, result.stdout) == (1, "")
    assert f"meta/m-GGUF is gated: accept its terms at {hub.url}/meta/m-GGUF" in result.stderr
    assert hub.requests[-1].authorization == "Bearer hf_may_not_read"
    assert "hf_may" not in result.stderr
    assert "Traceback" not in result.stderr
