"""What `check` and `serve` say of judges: rubrics of no use, and models that judge no better than chance."""

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.app import create_app
from gateway.catalog.judge_quality import judge_warnings
from gateway.cli import app
from gateway.cli.serving.server import print_welcome
from gateway.local.factory import to_upstream_settings
from gateway.settings import LocalEngine, load_settings
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
        assert list(judge_warnings(policy, by_tier)) == []


GUARDED = """\
description: x
extends: careful
guard: {guard}
"""
USELESS = (
    "guard.{part}: guard:{part} was no better than chance on smollm2-135m-instruct (AUROC 0.40, 0.30 to 0.49, "
    "9 answers of sums)"
)


def check_guard(config: Path, guard: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what `check` says of a policy with this guard, judged by a model that was measured at chance."""
    found = (at((0.4, 0.3, 0.49), "guard:input"), at((0.4, 0.3, 0.49), "guard:output"))
    monkeypatch.setattr(measured, "_read_results", lambda: found)
    (config.parent / "policies" / "mine.yaml").write_text(GUARDED.format(guard=guard))
    result = CliRunner().invoke(app, ["check", "--config", str(config)])
    assert result.exit_code == 0, result.output
    return [line for line in result.stdout.splitlines() if line.startswith("policy mine:")]


@pytest.mark.parametrize("part", ["input", "output"])
def test_a_guard_whose_judge_is_no_better_than_chance_is_not_served(
    config: Path, monkeypatch: pytest.MonkeyPatch, part: str
):
    (line,) = check_guard(config, f"{{{part}: true}}", monkeypatch)
    remedy = "name a better judge, or set guard.judge_anyway: true"
    assert line == f"policy mine: not served: {USELESS.format(part=part)}; {remedy}"


def test_it_is_served_if_the_policy_says_so_and_check_warns(config: Path, monkeypatch: pytest.MonkeyPatch):
    ok, *warnings = check_guard(config, "{input: true, output: true, judge_anyway: true}", monkeypatch)
    assert ok == "policy mine: ok"
    assert warnings == [f"policy mine: {USELESS.format(part=part)}" for part in ("input", "output")]


@pytest.mark.parametrize(
    "guard",
    ["{leak: true}", "{input: true, ask_input: {question: 'Bad? {messages}', labels: ['yes', 'no']}}"],
)
def test_a_guard_that_puts_no_measured_question_is_served(
    config: Path, monkeypatch: pytest.MonkeyPatch, guard: str
):
    assert check_guard(config, guard, monkeypatch) == ["policy mine: ok"]


async def test_serve_and_check_name_each_problem_once_with_all_policies_that_have_it(
    config: Path, capsys: pytest.CaptureFixture[str]
):
    cascades = "auto, balanced, careful, frugal, private"
    for model, problem in (
        (
            "other",
            "uncalibrated: there is no calibrator for other on llamacpp; make one with: smallfirst calibrate",
        ),
        (
            "other, capabilities: {logprobs: false}",
            "not served: it judges by log-probabilities, which here does not offer (capabilities.logprobs)",
        ),
    ):
        config.write_text(CONFIG.replace("smollm2-135m-instruct", model))
        settings = load_settings(config)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            print_welcome(create_app(settings), settings, listener)
        (line,) = [
            line for line in capsys.readouterr().err.splitlines() if cascades in line and problem in line
        ]
        assert line.startswith(f"  policies {cascades}")
        checked = CliRunner().invoke(app, ["check", "--config", str(config)]).stdout
        assert checked.count(problem) == 1


async def test_serve_warns_too(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(measured, "_read_results", lambda: (at((0.52, 0.44, 0.6)),))
    settings = load_settings(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print_welcome(create_app(settings), settings, listener)
    assert "policy mine: router.judge: verify was no better than chance" in capsys.readouterr().err
