"""What `smallfirst check` says of evaluators: rubrics of no use, and judges that are known to be worth nothing."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.catalog.evaluator_warnings import evaluator_warnings
from gateway.cli import app
from gateway.local.factory import to_upstream_settings
from gateway.settings import LocalEngine
from gateway.upstreams.pool import build_pools
from gateway.upstreams.upstream import Upstream
from policies.loading import evaluator_results as measured
from policies.loading.evaluator_results import EvaluatorResult
from policies.loading.loader import load_policies
from policies.schema.policy import Policy
from routers.confidence.calibration import LogprobSource

CONFIG = """\
local: null
upstreams:
  - {name: here, tier: slm, engine: llamacpp, url: "http://127.0.0.1:1/v1", model: smollm2-135m-instruct}
policies: {folder: policies}
"""
POLICY = """\
description: x
extends: careful
router:
  judge: {kind: verify}
evaluate:
  share: 0.1
  evaluators: [structure, verify, {kind: agree, compare: number}]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "policies" / "rubrics").mkdir(parents=True)
    (tmp_path / "policies" / "mine.yaml").write_text(POLICY)
    path = tmp_path / "smallfirst.yaml"
    path.write_text(CONFIG)
    return path


def at(auroc: tuple[float, float, float], evaluator: str = "verify") -> EvaluatorResult:
    source = LogprobSource(model="smollm2-135m-instruct", engine="llamacpp")
    return EvaluatorResult(evaluator=evaluator, made_for=source, data="sums", answers=9, auroc=auroc)


def test_a_judge_that_is_no_better_than_chance_is_told(config: Path, monkeypatch: pytest.MonkeyPatch):
    found = (at((0.52, 0.44, 0.6)), at((0.8, 0.7, 0.9), "agree:number"))
    monkeypatch.setattr(measured, "_read_results", lambda: found)
    result = CliRunner().invoke(app, ["check", "--config", str(config)])
    assert result.exit_code == 0, result.output
    said = "verify was no better than chance on smollm2-135m-instruct (AUROC 0.52, 0.44 to 0.60, 9 answers of sums)"
    assert [line for line in result.stdout.splitlines() if "chance" in line] == [
        f"policy mine: router.judge: {said}",
        f"policy mine: evaluate.evaluators.1: {said}",
    ]


def test_a_rubric_that_cannot_be_used_is_told(config: Path):
    rubric = config.parent / "policies" / "rubrics" / "tone.yaml"
    rubric.write_text("name: tone\ntext: Is {answer} in {mood}?\n")
    result = CliRunner().invoke(app, ["check", "--config", str(config)])
    assert result.exit_code == 2
    assert f"{rubric}:2: text: expected only the fields" in result.stderr


def test_the_built_in_policies_use_none_that_is_known_to_be_worth_nothing():
    by_tier = build_pools([Upstream(to_upstream_settings(LocalEngine(), port=1))])
    for policy in load_policies().values():
        assert isinstance(policy, Policy)
        assert list(evaluator_warnings(policy, by_tier)) == []
