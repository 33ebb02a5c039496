"""Where the environment of real vLLM is looked for, and what becomes of one that cannot be built."""

from pathlib import Path

import pytest

from benchmarks.vllm import environment


@pytest.fixture(autouse=True)
def nothing_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SMALLFIRST_MODELS_FOLDER", str(tmp_path / "no-weights"))
    for name in ("SMALLFIRST_VLLM", "SMALLFIRST_VLLM_MODELS"):
        monkeypatch.delenv(name, raising=False)


def test_where_nothing_was_built_the_way_to_build_it_is_told():
    assert environment.lacking() == "no vLLM here: make vllm"


def test_why_it_could_not_be_built_is_kept_for_the_tests_that_skip(capsys: pytest.CaptureFixture[str]):
    assert environment.main() == 0
    why = environment.lacking()
    assert why is not None
    assert "smallfirst models pull" in why
    assert why in capsys.readouterr().err


def test_half_a_build_is_none():
    environment.python().parent.mkdir(parents=True)
    environment.python().touch()
    (environment.folder() / "complete").write_text("of another recipe")
    assert environment.lacking() is not None


def test_another_environment_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SMALLFIRST_VLLM", str(tmp_path / "python"))
    assert environment.lacking() is not None
    monkeypatch.setenv("SMALLFIRST_VLLM_MODELS", str(tmp_path))
    assert environment.lacking() is None
    assert (environment.python(), environment.models()) == (tmp_path / "python", tmp_path)
