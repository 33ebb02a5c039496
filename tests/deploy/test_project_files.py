"""What the project says of itself to package indexes, hooks and GitHub agrees with what it does."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PYTHON = "Programming Language :: Python :: 3."


def read_yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("package", PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
def test_every_installed_package_is_marked_as_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_each_python_that_is_claimed_runs_in_the_workflow() -> None:
    job = read_yaml(".github/workflows/ci.yml")["jobs"]["ci"]
    claimed = [
        name.removeprefix(PYTHON) for name in PROJECT["project"]["classifiers"] if name.startswith(PYTHON)
    ]
    assert job["strategy"]["matrix"]["python-version"] == [f"3.{minor}" for minor in claimed]
    assert job["steps"][-1] == {"run": "bash .ci/run"}


def test_the_hook_runs_the_lint() -> None:
    (repository,) = read_yaml(".pre-commit-config.yaml")["repos"]
    assert [(hook["entry"], hook["language"]) for hook in repository["hooks"]] == [("make lint", "system")]


@pytest.mark.parametrize("form", ["bug", "feature"])
def test_issue_forms_have_what_github_demands(form: str) -> None:
    page = read_yaml(f".github/ISSUE_TEMPLATE/{form}.yml")
    assert page["name"]
    assert page["description"]
    fields = [field for field in page["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)


def test_what_contributors_need_is_not_published() -> None:
    assert "dev" not in PROJECT["project"]["optional-dependencies"]
    assert PROJECT["dependency-groups"]["dev"]


def test_every_dependency_says_why() -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    required = [
        line for line in lines if line.startswith('  "') and any(mark in line for mark in (">=", "=="))
    ]
    assert len(required) > 20
    assert [line for line in required if " # " not in line] == []
