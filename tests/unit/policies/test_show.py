"""A policy shown whole loads to the same policy, and each of its lines says truly where it comes from."""

from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from support.router_builders import calibrator

from policies.explain.origins import compare_policies, to_yaml_lines
from policies.loading.layers import BUILT_IN
from policies.loading.loader import load_all_with_layers, load_with_layer
from policies.loading.yaml_files import read_yaml

BASE = """\
description: The base.
router:
  kind: cascade
  accept: 0.5
  calibrator: own.json
overrides: [accept, commit]
"""
MINE = """\
description: 'Mine: [all] # of it'
extends: base
router:
  accept: 0.7
  commit: null
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.json").write_text(calibrator().model_dump_json())
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "mine.yaml").write_text(MINE)
    return tmp_path


def test_each_key_is_shown_with_the_line_that_said_it(folder: Path) -> None:
    found = [line.replace(f"{folder}/", "") for line in to_yaml_lines(load_with_layer(folder / "mine.yaml"))]
    rows = [tuple(part.rstrip() for part in line.split("  # ")) for line in found]
    assert ("length_ratio: 1.0", "default") in rows
    assert [row for row in rows if row[1] != "default"] == [
        ("description: 'Mine: [all] # of it'", "mine.yaml:1"),
        ("router:", "mine.yaml:3"),
        ("  kind: cascade", "base.yaml:3"),
        ("  accept: 0.7", "mine.yaml:4"),
        ("  commit: null", "mine.yaml:5"),
        ("  calibrator: own.json", "base.yaml:5"),
        ("overrides: [accept, commit]", "base.yaml:6"),
    ]


def test_what_is_shown_loads_to_the_same_policy(folder: Path) -> None:
    for name in ("mine", "base", "auto", "offline"):
        loaded = load_all_with_layers(folder)[name]
        again = folder / "again.yaml"
        again.write_text("\n".join(to_yaml_lines(loaded)))
        assert load_with_layer(again).policy.replace(name=name) == loaded.policy


@pytest.mark.parametrize("path", sorted(BUILT_IN.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_is_built_in_is_shown_by_its_name_alone(path: Path) -> None:
    loaded = load_with_layer(path)
    lines = {file.name: file.read_text().splitlines() for file in loaded.layer.files}
    for line in to_yaml_lines(loaded):
        text, _, origin = line.partition("  # ")
        if origin != "default":
            name, _, number = origin.partition("; ")[0].removeprefix("built in, ").partition(":")
            assert lines[name][int(number) - 1].strip().startswith(text.split(":")[0].strip())


def test_a_calibrator_that_stands_in_the_policy_is_shown_whole(folder: Path) -> None:
    inline = MINE + f"  calibrator: {calibrator().model_dump_json()}\n"
    (folder / "mine.yaml").write_text(inline)
    data = yaml.safe_load("\n".join(to_yaml_lines(load_with_layer(folder / "mine.yaml"))))
    assert data["router"]["calibrator"] == calibrator().model_dump(mode="json")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@example("a\n...")
@example("\xa0")
@example("\x85")
def test_any_description_survives(description: str) -> None:
    path = BUILT_IN / "any.yaml"
    text = yaml.safe_dump({"description": description, "extends": "offline"}).encode()
    loaded = load_with_layer(path, lambda asked: text if asked == path else asked.read_bytes())
    again = "\n".join(to_yaml_lines(loaded)).encode()
    assert read_yaml(path, lambda _: again)[0]["description"] == loaded.policy.description


# --- differences


def test_policies_differ_by_path(folder: Path) -> None:
    found = load_all_with_layers(folder)
    assert compare_policies(found["base"], found["base"]) == []
    assert compare_policies(found["base"], found["mine"]) == [
        "description: The base. -> 'Mine: [all] # of it'",
        "router.accept: 0.5 -> 0.7",
    ]
    assert set(compare_policies(found["mine"], found["offline"])) >= {
        "router.kind: cascade -> direct",
        "router.accept: 0.7 -> absent",
        "router.commit: null -> absent",
        "router.calibrator: {center: [0.0], final: {intercept: 4.0, weights: [4.0]}, mad... -> absent",
        "router.tier: absent -> slm",
        "router.fallback: absent -> false",
        "overrides: [accept, commit] -> []",
    }


def test_calibrators_differ_by_what_is_in_them(folder: Path) -> None:
    """Whatever their files are named."""
    (folder / "other.json").write_text(calibrator(center=(0.5,)).model_dump_json())
    (folder / "mine.yaml").write_text(MINE + "  calibrator: other.json\n")
    assert compare_policies(load_with_layer(folder / "base.yaml"), load_with_layer(folder / "mine.yaml"))[
        2:
    ] == ["router.calibrator.center: [0.0] -> [0.5]"]
