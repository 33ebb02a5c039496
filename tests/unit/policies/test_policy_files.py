"""Whether files have changed since they were loaded: no edit is missed, and none is seen where there is none."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from support.router_builders import calibrator

from policies.loading import policy_files
from policies.loading.layers import BUILT_IN
from policies.loading.loader import load_policies
from policies.loading.policy_files import PolicyFiles
from policies.loading.regular_files import read_file
from policies.loading.yaml_files import ConfigError

NAMES = ("a", "b", "auto")
TEXTS = {
    "direct": "description: x\nrouter: {kind: direct, tier: slm}\n",
    "cascade": "description: x\nrouter: {kind: cascade, accept: 0.5, calibrator: own.json}\n",
    "extending": "description: x\nextends: b\n",
    "broken": "description: x\nrouter: {kind: direct, tier: huge}\n",
    "empty": "",
}


@contextmanager
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as path:
        yield Path(path)


class Edits:
    """Each makes a difference: what is written grows, so that no two writes within one tick of the file system's
    clock look the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0

    def text(self, kind: str) -> str:
        self.count += 1
        return TEXTS[kind] + "#" * self.count + "\n"

    def write(self, name: str, kind: str) -> None:
        (self.path / f"{name}.yaml").write_text(self.text(kind))

    def replace(self, name: str, kind: str) -> None:
        (self.path / "editing.tmp").write_text(self.text(kind))
        os.replace(self.path / "editing.tmp", self.path / f"{name}.yaml")

    def remove(self, name: str, _: str) -> None:
        (self.path / f"{name}.yaml").unlink(missing_ok=True)

    def calibrate(self, *_: str) -> None:
        self.count += 1
        (self.path / "own.json").write_text(calibrator().model_dump_json() + " " * self.count)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "replace", "remove", "calibrate"]),
        st.sampled_from(NAMES),
        st.sampled_from(sorted(TEXTS)),
    ),
    max_size=8,
)


def outcome(files: PolicyFiles | Path) -> dict[str, str] | str:
    try:
        found = load_policies(files) if isinstance(files, Path) else files.load()
    except ConfigError as error:
        return str(error)
    return {name: policy.digest for name, policy in found.items()}


@pytest.mark.untraced  # a tracer sees every step of the parser of YAML
@examples(max_examples=40)  # each loads all policies many times over
@given(STEPS)
def test_what_has_not_changed_loads_to_the_same_and_what_has_is_seen(
    steps: list[tuple[str, str, str]],
) -> None:
    """The check of a watch: as long as `look` is what was `read`, another load would come to the same."""
    with folder() as path:
        edits, files = Edits(path), PolicyFiles(path)
        loaded = outcome(files)
        for edit, name, kind in steps:
            assert files.read_stamps() == files.stamps
            getattr(edits, edit)(name, kind)
            anew = outcome(path)
            if anew != loaded:
                assert files.read_stamps() != files.stamps
            loaded = outcome(files)
            assert loaded == anew


def test_each_file_is_read_once_a_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        (tmp_path / f"{name}.yaml").write_text("description: x\nextends: auto\nrouter: {accept: 0.65}\n")
    read: list[Path] = []
    monkeypatch.setattr(policy_files, "read_file", lambda path: [read.append(path), read_file(path)][1])
    files = PolicyFiles(tmp_path)
    files.load()
    assert sorted(read) == sorted(files.stamps)
    assert {BUILT_IN / "auto.yaml", tmp_path / "auto.yaml"} <= set(read)


def test_a_file_that_was_gone_before_it_could_be_read_is_seen_to_be_gone(tmp_path: Path) -> None:
    """Listed as it is renamed: the load fails, and must not be thought the last word."""
    (tmp_path / "a.yaml").symlink_to(tmp_path / "nothing")
    files = PolicyFiles(tmp_path)
    assert "cannot be read" in str(outcome(files))
    assert files.read_stamps() == files.stamps
    (tmp_path / "a.yaml").unlink()
    assert files.read_stamps() != files.stamps
