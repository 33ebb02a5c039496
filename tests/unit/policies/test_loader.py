"""An error is for the person who wrote the file: it names file, line, path and what was expected."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict
from support.router_builders import calibrator

from policies.loading.layers import BUILT_IN
from policies.loading.loader import load_policies, load_policy
from policies.loading.trained_files import STOCK_CALIBRATOR
from policies.loading.yaml_files import ConfigError, read_yaml, to_places, validate
from routers.confidence.calibration import Calibrator
from routers.strategies.cascade import Cascade

DIRECT = "description: x\nrouter:\n  kind: direct\n  tier: slm\n"
CASCADE = "description: x\nrouter:\n  kind: cascade\n  accept: 0.5\n  calibrator: own.json\n"

BUILT_IN_POLICIES = {"auto", "balanced", "careful", "frugal", "offline", "private"}


def written(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> list[str]:
    """The lines of the error, the file's folder left out."""
    with pytest.raises(ConfigError) as error:
        load_policy(path)
    return str(error.value).replace(f"{path.parent}/", "").splitlines()


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        (DIRECT + "  tire: llm\n", ["mine.yaml:5: router.tire: unknown key"]),
        (DIRECT + "colour: red\n", ["mine.yaml:5: colour: unknown key"]),
        (
            DIRECT + "  fallback: perhaps\n",
            [
                "mine.yaml:5: router.fallback: Input should be a valid boolean, unable to interpret input, "
                "found 'perhaps'"
            ],
        ),
        (
            DIRECT + "length_ratio: 0\n",
            ["mine.yaml:5: length_ratio: Input should be greater than 0, found 0"],
        ),
        (
            DIRECT + "length_ratio: .inf\n",
            ["mine.yaml:5: length_ratio: Input should be a finite number, found inf"],
        ),
        (
            DIRECT + "evaluate: {share: 1, evaluators: [nope]}\n",
            [
                "mine.yaml:5: evaluate.evaluators.0: expected one of the kinds verify, rate, agree, structure"
            ],
        ),
        (
            DIRECT + "evaluate: {share: 1, evaluators: verify}\n",
            ["mine.yaml:5: evaluate.evaluators: Input should be a list, found 'verify'"],
        ),
        (
            DIRECT + "evaluate: {share: 1, evaluators: []}\n",
            ["mine.yaml:5: evaluate.evaluators: List should have at least 1 item after validation, not 0"],
        ),
        (DIRECT + "ceilings: 5\n", ["mine.yaml:5: ceilings: Input should be a mapping, found 5"]),
        ("router:\n  kind: direct\n  tier: slm\n", ["mine.yaml:1: description: this key is required"]),
        (
            "description: x\nrouter:\n  kind: direct\n",
            ["mine.yaml:2: router.tier: this key is required"],
        ),
        (
            "description: x\nrouter: {kind: cascde}\n",
            [
                "mine.yaml:2: router: Input tag 'cascde' found using 'kind' does not match any of the "
                "expected tags: 'cascade', 'difficulty', 'direct', 'hedge', 'speculative'"
            ],
        ),
        ("", ["mine.yaml:1: description: this key is required", "mine.yaml:1: router: this key is required"]),
        (
            DIRECT + "name: other\n",
            ["mine.yaml:5: name: unknown key; a policy is named by its file"],
        ),
    ],
    ids=[
        "unknown key",
        "unknown key at the top",
        "not a boolean",
        "out of range",
        "not finite",
        "an unknown evaluator",
        "an evaluator that is no list",
        "no evaluator",
        "no mapping",
        "a required key",
        "a required key inside",
        "unknown kind",
        "an empty file",
        "a name of its own",
    ],
)  # fmt: skip
def test_each_mistake_is_a_line_with_its_place(tmp_path: Path, text: str, errors: list[str]) -> None:
    assert refusal(written(tmp_path, text)) == errors


def test_several_mistakes_are_told_at_once(tmp_path: Path) -> None:
    found = refusal(written(tmp_path, "description: ''\nrouter:\n  kind: direct\n  tier: huge\n  x: 1\n"))
    assert [line.split(": ")[:2] for line in found] == [
        ["mine.yaml:1", "description"],
        ["mine.yaml:4", "router.tier"],
        ["mine.yaml:5", "router.x"],
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a: 1\na: 2\n", "mine.yaml:2: a: this key stands twice"),
        ("a:\n  - b: 1\n    b: 2\n", "mine.yaml:3: a.0.b: this key stands twice"),
        ("a: 1\nb: [\n", "mine.yaml:3: is not YAML: expected the node content, but found '<stream end>'"),
        ("a: 1\nb: !secret x\n", "mine.yaml:2: is not YAML: could not determine a constructor for the tag '!secret'"),
        ("a: 1\n[b]: 2\n", "mine.yaml:2: is not YAML: found unhashable key"),
        ("a: 1\nb: \x01\n", "mine.yaml:2: is not YAML: special characters are not allowed"),
        ("a: 2024-02-30\n", "mine.yaml:1: is not YAML: day is out of range for month"),
        ("a: 1\n---\nb: 2\n", "mine.yaml:2: is not YAML: but found another document"),
        ("- a\n", "mine.yaml:1: expected a mapping of settings, found list"),
        ("just text\n", "mine.yaml:1: expected a mapping of settings, found str"),
    ],
)  # fmt: skip
def test_what_is_no_mapping_is_refused_by_line(tmp_path: Path, text: str, error: str) -> None:
    assert refusal(written(tmp_path, text)) == [error]


def test_a_yaml_error_without_a_place_is_told_at_the_first_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    def fails(*_: Any, **__: Any) -> None:
        raise yaml.MarkedYAMLError(problem="odd")

    monkeypatch.setattr(yaml.SafeLoader, "get_single_node", fails)
    assert refusal(written(tmp_path, DIRECT)) == ["mine.yaml:1: is not YAML: odd"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.yaml") == ["none.yaml: cannot be read: No such file or directory"]


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes("description: ä".encode("utf-16"))
    assert refusal(path) == ["mine.yaml: is not UTF-8 text"]


def test_lines_are_those_of_keys_and_items(tmp_path: Path) -> None:
    data, lines = read_yaml(written(tmp_path, "# first\na:\n  b: 1\n  c:\n    - 2\n    -\n      d: 3\n"))
    assert data == {"a": {"b": 1, "c": [2, {"d": 3}]}}
    assert lines == {
        (): 2,
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "c"): 4,
        ("a", "c", 0): 5,
        ("a", "c", 1): 7,
        ("a", "c", 1, "d"): 7,
    }


# --- calibrators


def test_a_calibrator_is_read_from_beside_its_policy(tmp_path: Path) -> None:
    written(tmp_path, calibrator().model_dump_json(), "own.json")
    router = load_policy(written(tmp_path, CASCADE)).router
    assert isinstance(router, Cascade)
    assert router.calibrator == calibrator()


def test_a_calibrator_may_stand_in_the_policy_itself(tmp_path: Path) -> None:
    text = CASCADE.replace("own.json", calibrator().model_dump_json())
    router = load_policy(written(tmp_path, text)).router
    assert isinstance(router, Cascade)
    assert router.calibrator == calibrator()


def test_a_mistake_in_a_policys_own_calibrator_is_told_at_its_whole_path(tmp_path: Path) -> None:
    fields = calibrator().model_dump(mode="json")
    fields["made_for"]["engine"] = 3
    text = CASCADE.replace("own.json", json.dumps(fields))
    assert refusal(written(tmp_path, text)) == [
        "mine.yaml:5: router.calibrator.made_for.engine: Input should be a valid string, found 3"
    ]


def test_a_missing_calibrator_is_told_where_it_is_asked_for(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, CASCADE)) == [
        "mine.yaml:5: router.calibrator: own.json: No such file or directory; expected `stock` or a file"
    ]


def broken(**changes: Any) -> str:
    return json.dumps({**calibrator().model_dump(mode="json"), **changes}, indent=1)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "own.json:1: the file: Invalid JSON: EOF while parsing an object at line 1 column 1"),
        (broken(center=[]), "own.json:1: the file: center has 0 values for 1 signals"),
        (broken(scale=[0]), "own.json:20: scale.0: Input should be greater than 0, found 0"),
        (broken(final={"weights": [1]}), "own.json:22: final.intercept: this key is required"),
    ],
)
def test_a_broken_calibrator_is_told_in_its_own_file(tmp_path: Path, text: str, error: str) -> None:
    written(tmp_path, text, "own.json")
    assert refusal(written(tmp_path, CASCADE)) == [error]


# --- secrets


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: int = 0
    headers: dict[str, int] = {}
    query: dict[str, int] = {}
    other: int = 0


def read(path: Path) -> Inner:
    data, lines = read_yaml(path)
    return validate(Inner, data, to_places(path, lines))


@pytest.mark.parametrize("key", ["key", "headers", "query"])
@pytest.mark.parametrize("value", ["sk-secret", "{Authorization: sk-secret}"])
def test_what_may_be_a_secret_is_never_shown(tmp_path: Path, key: str, value: str) -> None:
    path = written(tmp_path, f"{key}: {value}\n")
    with pytest.raises(ConfigError) as error:
        read(path)
    assert f"{path}:1: {key}" in str(error.value)
    assert "sk-secret" not in str(error.value)


def test_an_unknown_key_may_be_a_misspelt_secret(tmp_path: Path) -> None:
    path = written(tmp_path, "api_key: sk-secret\n")
    with pytest.raises(ConfigError) as error:
        read(path)
    assert str(error.value) == f"{path}:1: api_key: unknown key"


def test_what_is_no_secret_is_shown(tmp_path: Path) -> None:
    path = written(tmp_path, "other: plain\n")
    with pytest.raises(ConfigError, match="found 'plain'"):
        read(path)


# --- policies


def test_a_policy_is_named_by_its_file(tmp_path: Path) -> None:
    assert load_policy(written(tmp_path, DIRECT, "quick.yaml")).name == "quick"


def test_a_digest_names_the_policy_and_its_calibrator(tmp_path: Path) -> None:
    def digest(**changes: Any) -> str:
        written(tmp_path, calibrator(**changes).model_dump_json(), "own.json")
        return load_policy(written(tmp_path, CASCADE)).digest

    assert digest() == digest()
    assert digest() != digest(center=(0.5,))
    assert len(digest()) == 16


@pytest.mark.parametrize("path", sorted(BUILT_IN.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_built_in_policy_loads_is_short_and_says_what_it_is_for(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert load_policy(path).name == path.stem
    assert len(lines) < 30
    assert lines[0].startswith("# ")


def test_the_built_in_policies_are_there() -> None:
    assert set(load_policies()) == BUILT_IN_POLICIES


def test_the_stock_calibrator_is_a_calibrator() -> None:
    router = load_policies()["auto"].router
    assert isinstance(router, Cascade)
    assert router.calibrator == Calibrator.model_validate_json(STOCK_CALIBRATOR.read_bytes())


def test_a_folders_policies_join_and_win_over_the_built_in_ones(tmp_path: Path) -> None:
    written(tmp_path, DIRECT.replace("x", "Mine.", 1), "auto.yaml")
    written(tmp_path, DIRECT, "quick.yaml")
    found = load_policies(tmp_path)
    assert set(found) == {*BUILT_IN_POLICIES, "quick"}
    assert found["auto"].description == "Mine."


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"policies\.folder: .* is not a folder"):
        load_policies(tmp_path / "none")
