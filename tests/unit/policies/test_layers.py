"""A policy file that extends another: what it comes to, and whose line an error names."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.router_builders import calibrator

from policies.loading.layers import BUILT_IN, Layer, list_policy_files, merge_layers
from policies.loading.loader import load_policies, load_policy, load_with_layer
from policies.loading.yaml_files import ConfigError, KeyPath, Place, read_yaml
from policies.schema.policy import Policy
from routers.strategies.cascade import Cascade
from routers.strategies.direct import Direct

BASE = """\
description: The base.
router:
  kind: cascade
  accept: 0.5
  commit: 0.9
  calibrator: own.json
length_ratio: 2
"""
BUILT_IN_NAMES = {path.stem for path in list_policy_files(BUILT_IN)}
OTHERS = (
    f"expected another policy beside this file or built in ({', '.join(sorted({*BUILT_IN_NAMES, 'base'}))})"
)
NO_CALIBRATOR = "router.calibrator: none.json: No such file or directory; expected `stock` or a file"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`base.yaml` and its calibrator."""
    (tmp_path / "own.json").write_text(calibrator().model_dump_json(indent=1))
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path


def extending(folder: Path, text: str, name: str = "mine", base: str = "base") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(f"description: Mine.\nextends: {base}\n{text}")
    return path


def cascade(policy: Policy) -> Cascade:
    assert isinstance(policy.router, Cascade)
    return policy.router


def refusal(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_policy(path)
    return str(error.value).replace(f"{path.parent}/", "").splitlines()


def test_what_a_policy_does_not_say_is_the_bases(folder: Path) -> None:
    mine = load_policy(extending(folder, "router: {accept: 0.7}\n"))
    assert (mine.name, mine.description, mine.length_ratio) == ("mine", "Mine.", 2.0)
    assert cascade(mine) == cascade(load_policy(folder / "base.yaml")).model_copy(update={"accept": 0.7})


def test_null_takes_away_what_the_base_says(folder: Path) -> None:
    assert cascade(load_policy(extending(folder, "router: {commit: null}\n"))).commit is None


def test_another_kind_replaces_the_router_whole(folder: Path) -> None:
    mine = load_policy(extending(folder, "router: {kind: direct, tier: llm}\n"))
    assert mine.router == Direct(tier="llm")
    assert mine.length_ratio == 2.0


def test_a_chain_is_laid_over_from_its_end(folder: Path) -> None:
    extending(folder, "router: {accept: 0.6}\nlength_ratio: 3\n", "middle")
    found = load_with_layer(extending(folder, "router: {accept: 0.7}\n", base="middle"))
    assert (cascade(found.policy).accept, cascade(found.policy).commit) == (0.7, 0.9)
    assert found.policy.length_ratio == 3.0
    assert [path.stem for path in found.layer.files] == ["mine", "middle", "base"]


def test_a_built_in_policy_can_be_extended_under_its_own_name(tmp_path: Path) -> None:
    mine = load_policy(extending(tmp_path, "router: {accept: 0.65}\n", "auto", base="auto"))
    other = load_policy(extending(tmp_path, "router: {commit: 0.8}\n", base="auto"))
    stock = cascade(load_policies()["auto"])
    assert cascade(mine) == stock.model_copy(update={"accept": 0.65})
    assert cascade(other) == stock.model_copy(update={"accept": 0.65, "commit": 0.8})


def test_a_calibrators_path_is_meant_from_the_file_that_wrote_it(tmp_path: Path) -> None:
    """The built-in policy's `stock`, and a base's file beside it, whoever extends them."""
    (tmp_path / "own.json").write_text(calibrator().model_dump_json())
    middle = extending(tmp_path, "router: {calibrator: own.json}\n", "middle", base="auto")
    assert cascade(load_policy(middle)).calibrator == calibrator()
    last = load_policy(extending(tmp_path, "router: {accept: 0.65}\n", base="middle"))
    assert cascade(last).calibrator == calibrator()


def test_a_description_is_not_inherited(folder: Path) -> None:
    (folder / "mine.yaml").write_text("extends: base\n")
    assert refusal(folder / "mine.yaml") == ["mine.yaml:1: description: this key is required"]


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("router: {accept: 2}\n", ["mine.yaml:3: router.accept: Input should be less than or equal to 1, found 2"]),
        ("router:\n  acept: 0.6\n", ["mine.yaml:4: router.acept: unknown key"]),
        ("router: {kind: direct}\n", ["mine.yaml:3: router.tier: this key is required"]),
        ("length_ratio: {}\n", ["mine.yaml:3: length_ratio: Input should be a valid number"]),
        (
            "router: {commit: 0.4}\n",
            ["mine.yaml:3: router: commit must be at least accept: a beginning says less than a finished draft"],
        ),
        ("router: {calibrator: none.json}\n", [f"mine.yaml:3: {NO_CALIBRATOR}"]),
        ("name: other\n", ["mine.yaml:3: name: unknown key; a policy is named by its file"]),
    ],
)  # fmt: skip
def test_a_mistake_of_its_own_is_told_in_its_file(folder: Path, text: str, errors: list[str]) -> None:
    assert refusal(extending(folder, text)) == errors


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        (BASE.replace("0.5", "5"), ["base.yaml:4: router.accept: Input should be less than or equal to 1, found 5"]),
        (BASE.replace("length", "lenght"), ["base.yaml:7: lenght_ratio: unknown key"]),
        (BASE.replace("own.json", "none.json"), [f"base.yaml:6: {NO_CALIBRATOR}"]),
        (BASE + "router: {}\n", ["base.yaml:8: router: this key stands twice"]),
        (BASE + "name: base\n", ["base.yaml:8: name: unknown key; a policy is named by its file"]),
        (BASE + "extends: 3\n", ["base.yaml:8: extends: expected the name of a policy, found 3"]),
    ],
)  # fmt: skip
def test_an_inherited_mistake_is_told_in_the_bases_file(folder: Path, text: str, errors: list[str]) -> None:
    (folder / "base.yaml").write_text(text)
    assert refusal(extending(folder, "router: {give_up: 0.1}\n")) == errors
    with pytest.raises(ConfigError) as all_errors:
        load_policies(folder)
    assert str(all_errors.value).replace(f"{folder}/", "").splitlines() == errors


def test_a_mistake_of_the_base_that_is_replaced_is_none(folder: Path) -> None:
    (folder / "base.yaml").write_text(BASE.replace("0.5", "5"))
    assert cascade(load_policy(extending(folder, "router: {accept: 0.6}\n"))).accept == 0.6


@pytest.mark.parametrize(
    ("base", "error"),
    [
        ("none", f"{OTHERS}, found 'none'"),
        ("mine", f"{OTHERS}, found 'mine'"),
        ("../base", f"{OTHERS}, found '../base'"),
        ("base.yaml", f"{OTHERS}, found 'base.yaml'"),
        ("3", "expected the name of a policy, found 3"),
        ("", "expected the name of a policy, found None"),
        ("[base]", "expected the name of a policy, found ['base']"),
    ],
)  # fmt: skip
def test_what_can_not_be_extended_is_told(folder: Path, base: str, error: str) -> None:
    assert refusal(extending(folder, "", base=base)) == [f"mine.yaml:2: extends: {error}"]


def test_a_circle_is_told_where_it_closes(folder: Path) -> None:
    extending(folder, "", "a", base="b")
    extending(folder, "", "b", base="c")
    extending(folder, "", "c", base="b")
    assert refusal(folder / "a.yaml") == ["c.yaml:2: extends: expected a chain that ends, found b -> c -> b"]


def test_files_that_editors_leave_are_no_policies(folder: Path) -> None:
    (folder / ".base.yaml").write_text("half of")
    (folder / ".#base.yaml").symlink_to("someone@somewhere:1")
    (folder / "base.yaml~").write_text("the one before")
    assert set(load_policies(folder)) == {*BUILT_IN_NAMES, "base"}


def test_every_files_mistakes_are_told_at_once(folder: Path) -> None:
    extending(folder, "x: 1\n", "a")
    extending(folder, "y: 1\n", "b")
    with pytest.raises(ConfigError) as error:
        load_policies(folder)
    assert [line.rsplit("/", 1)[-1] for line in str(error.value).splitlines()] == [
        "a.yaml:3: x: unknown key",
        "b.yaml:3: y: unknown key",
    ]


# --- properties

KEYS = st.sampled_from(["a", "b", "c", "kind"])
VALUES = st.none() | st.integers(0, 2) | st.lists(st.integers(0, 2), max_size=2)
TREES = st.dictionaries(
    KEYS, st.recursive(VALUES, lambda inner: st.dictionaries(KEYS, inner, max_size=3)), max_size=4
)


def paths(value: Any, at: KeyPath = ()) -> dict[KeyPath, Any]:
    """Every path of a tree of mappings, and what stands there."""
    found = {at: value}
    for key, below in value.items() if isinstance(value, dict) else ():
        found |= paths(below, (*at, key))
    return found


def layer(data: dict[str, Any], name: str) -> Layer:
    return Layer(data, {at: Place(Path(name), 1) for at in paths(data)}, (Path(name),))


@given(TREES, TREES)
def test_what_is_laid_over_stands_and_every_path_knows_who_said_it(
    below: dict[str, Any], over: dict[str, Any]
) -> None:
    whole = merge_layers(layer(below, "below"), layer(over, "over"))
    said, ours, theirs = paths(whole.data), paths(over), paths(below)
    assert whole.places.keys() == said.keys()
    for at, value in ours.items():
        assert whole.places[at].path == Path("over")
        assert said[at] == value or isinstance(value, dict)
    for at in said.keys() - ours.keys():
        assert whole.places[at].path == Path("below")
        assert said[at] == theirs[at]
    for at in theirs.keys() - said.keys():  # lost to what replaced it, or what it was in
        assert any(at[:n] in ours for n in range(1, len(at) + 1)) or not at


@given(TREES)
def test_what_says_nothing_changes_nothing_and_what_says_the_same_neither(tree: dict[str, Any]) -> None:
    assert merge_layers(layer(tree, "below"), layer({}, "over")).data == tree
    assert merge_layers(layer({}, "below"), layer(tree, "over")).data == tree
    assert merge_layers(layer(tree, "below"), layer(tree, "over")).data == tree


SOUP = st.text(st.sampled_from(list("ab:-{}[]&*!<?|>'\"#%@,\n \t\x00é1.")), max_size=60)


@pytest.mark.untraced  # a tracer sees every step of the parser of YAML
@given(SOUP.map(str.encode) | st.binary(max_size=40))
@example(b"[" * 5000)
@example(b"a: &a [*a]")
@example(b"<<: {name: x}")
@example(b"<<: {extends: auto}\ndescription: x")
@example(b"extends: {}")
@example(b"a: &a [x]\nb: &b [*a,*a]\nc: &c [*b,*b]")
def test_any_bytes_are_a_policy_or_a_told_error(data: bytes) -> None:
    path = BUILT_IN / "soup.yaml"
    found: Policy | str
    try:
        found = load_with_layer(path, lambda asked: data if asked == path else asked.read_bytes()).policy
    except ConfigError as error:
        found = str(error)
    if isinstance(found, str):
        assert found.startswith(f"{path}:")
    else:
        assert found.router == load_policies()["auto"].router  # no soup holds a router of its own


def test_an_alias_of_itself_is_refused(tmp_path: Path) -> None:
    """Whoever walks through the values would never come to an end."""
    path = tmp_path / "mine.yaml"
    path.write_text("b: 1\na: &a [*a]\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml:2: a\.0: it holds itself"):
        read_yaml(path)
