"""What `check` and the banner say of settings that work, but not as one might expect."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.fake_engine import FakeVllm
from typer.testing import CliRunner

from gateway.cli import app
from gateway.cli.serving.settings_warnings import find_settings_warnings
from gateway.settings import LocalEngine, Settings


def warnings_of(expose_models: bool = False, **local: Any) -> str:
    settings = Settings(local=LocalEngine(**local), expose_models=expose_models)
    return "\n".join(find_settings_warnings(settings))


QWEN: dict[str, Any] = {"engine": "vllm", "model": "Qwen/Qwen3-0.6B"}


def test_what_works_as_one_expects_is_not_mentioned():
    assert warnings_of() == ""
    assert warnings_of(**QWEN) == ""
    assert warnings_of(**QWEN, tool_parser=None) == ""
    assert warnings_of(**QWEN, speculative={"method": "ngram", "num_speculative_tokens": 2}) == ""
    assert warnings_of(**QWEN, expose_models=True, adapters={"sql": "org/lora"}) == ""


def test_a_name_that_may_be_a_mistyped_path_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert warnings_of(**QWEN, tool_parser=None) == ""
    (tmp_path / "Qwen").mkdir()
    said = warnings_of(**QWEN, tool_parser=None)
    assert "local.model: there is no folder Qwen/Qwen3-0.6B, so this is taken for a name" in said
    assert "write ./Qwen/Qwen3-0.6B" in said


def test_adapters_that_no_request_can_name_are():
    assert "no request can name sql, unless expose_models is true" in warnings_of(
        **QWEN, adapters={"sql": "a/b"}
    )


def test_check_says_that_tools_are_off_and_that_a_draft_model_spoils_mixed_temperatures(tmp_path: Path):
    fake = FakeVllm(tmp_path)
    speculative = {"method": "draft_model", "model": str(fake.model), "num_speculative_tokens": 2}
    local = fake.engine(speculative=speculative).model_dump(mode="json", exclude_unset=True)
    path = tmp_path / "smallfirst.yaml"
    path.write_text(json.dumps({"local": local}))
    result = CliRunner().invoke(app, ["check", "--config", str(path)])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert any("no requests with tools" in line and "local.tool_parser" in line for line in lines)
    assert any("draft_model" in line and "one temperature only" in line for line in lines)
