"""What was trained is read from the file that a policy names, and its mistakes are told there."""

from pathlib import Path

import pytest
from support.router_builders import calibrator, scorer

from policies.explain.origins import to_yaml_lines
from policies.loading.loader import load_policy, load_with_layer
from policies.loading.policy_files import PolicyFiles
from policies.loading.yaml_files import ConfigError
from policies.schema.policy import Policy
from routers.strategies.cascade import Cascade
from routers.strategies.difficulty import Difficulty, Scorer

DIFFICULTY = "description: x\nrouter:\n  kind: difficulty\n  gate:\n    scorer: own.json\n"
GATED = """\
description: x
router:
  kind: cascade
  accept: 0.5
  calibrator: calibrator.json
  gate: {scorer: own.json, easy_from: 0.3}
"""


def written(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as error:
        load_policy(path)
    return str(error.value).replace(f"{path.parent}/", "")


def scorer_of(path: Path) -> Scorer | None:
    policy = load_policy(path)
    assert isinstance(policy, Policy)
    assert isinstance(policy.router, Difficulty | Cascade)
    assert policy.router.gate is not None
    return policy.router.gate.scorer


@pytest.mark.parametrize("text", [DIFFICULTY, GATED], ids=["difficulty", "cascade"])
def test_a_scorer_is_read_from_beside_its_policy(tmp_path: Path, text: str) -> None:
    written(tmp_path, scorer().model_dump_json(), "own.json")
    written(tmp_path, calibrator().model_dump_json(), "calibrator.json")
    assert scorer_of(written(tmp_path, text)) == scorer()


def test_a_scorer_may_stand_in_the_policy_itself(tmp_path: Path) -> None:
    text = DIFFICULTY.replace("own.json", scorer().model_dump_json())
    assert scorer_of(written(tmp_path, text)) == scorer()


def test_a_path_is_meant_from_the_file_that_wrote_it(tmp_path: Path) -> None:
    """Whoever extends it."""
    written(tmp_path, scorer().model_dump_json(), "own.json")
    written(tmp_path, DIFFICULTY, "base.yaml")
    text = "description: y\nextends: base\nrouter: {gate: {easy_from: 0.25}}\n"
    assert scorer_of(written(tmp_path, text)) == scorer()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("own.json", "own.json: No such file or directory; expected a file"),
        ("stock", "none ships; expected the path of a file that `smallfirst tune` wrote"),
    ],
)
def test_a_scorer_that_is_not_there_is_told_where_it_is_asked_for(
    tmp_path: Path, name: str, told: str
) -> None:
    path = written(tmp_path, DIFFICULTY.replace("own.json", name))
    assert refusal(path) == f"mine.yaml:5: router.gate.scorer: {told}"


def test_a_broken_scorer_is_told_in_its_own_file(tmp_path: Path) -> None:
    written(tmp_path, scorer().model_dump_json(indent=1).replace("2.0", "0.0", 1), "own.json")
    assert refusal(written(tmp_path, DIFFICULTY)).startswith("own.json:")
    written(tmp_path, "{", "own.json")
    assert refusal(written(tmp_path, DIFFICULTY)).startswith("own.json:1: the file: Invalid JSON")


@pytest.mark.parametrize("gate", ["3", "[own.json]", "{scorer: 3}", "null"])
def test_a_gate_that_is_none_is_told_as_such(tmp_path: Path, gate: str) -> None:
    path = written(tmp_path, f"description: x\nrouter: {{kind: difficulty, gate: {gate}}}\n")
    assert refusal(path).startswith("mine.yaml:2: router.gate")


def test_a_scorer_is_shown_by_the_name_of_its_file(tmp_path: Path) -> None:
    written(tmp_path, scorer().model_dump_json(), "own.json")
    lines = [
        line.partition("  #")[0].rstrip()
        for line in to_yaml_lines(load_with_layer(written(tmp_path, DIFFICULTY)))
    ]
    assert "    scorer: own.json" in lines


def test_an_edit_of_a_scorer_is_seen(tmp_path: Path) -> None:
    written(tmp_path, scorer().model_dump_json(), "own.json")
    written(tmp_path, DIFFICULTY)
    files = PolicyFiles(tmp_path)
    first = files.load()["mine"]
    assert files.read_stamps() == files.stamps
    written(tmp_path, scorer(center=(2.5,)).model_dump_json(), "own.json")
    assert files.read_stamps() != files.stamps
    assert files.load()["mine"] != first
