"""The command says what to do where an application's own packages hide those of Smallfirst."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gateway.__main__ import ADVICE

ROOT = Path(__file__).resolve().parents[3]
COMMAND = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"][
    "smallfirst"
]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`smallfirst`, as an installation starts it, with the folder first on PYTHONPATH."""
    module, _, function = COMMAND.partition(":")
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", f"from {module} import {function}; {function}()", *arguments],
        env=os.environ | {"PYTHONPATH": path},
        cwd=folder,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("file", ["routers/__init__.py", "policies/__init__.py", "routers.py"])
@pytest.mark.parametrize("arguments", [["--version"], ["serve"]])
def test_a_package_that_hides_ours_is_named_with_the_advice(
    tmp_path: Path, file: str, arguments: list[str]
) -> None:
    hiding = tmp_path / file
    hiding.parent.mkdir(exist_ok=True)
    hiding.write_text("raise RuntimeError('the application runs')")
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    name = file.partition("/")[0].removesuffix(".py")
    assert done.stderr == f"smallfirst: `{name}` is {hiding}, which is not Smallfirst's. {ADVICE}\n"


def test_a_folder_that_is_no_package_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "routers").mkdir()
    (tmp_path / "policies").mkdir()
    done = run(tmp_path, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("smallfirst ")


def test_the_page_that_tells_how_to_install_gives_the_same_advice() -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert ADVICE in readme
