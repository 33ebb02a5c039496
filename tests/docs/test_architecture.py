"""The architecture page names what exists, and describes every package and every module beside the packages."""

import re
from collections.abc import Iterator

import pytest

from tools.docs.markdown import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
INSTALLED = ("gateway", "routers", "policies")
PATHS = sorted(set(re.findall(r"`(\w+/[\w./]*)`", PAGE)))
LINKED_PATHS = re.findall(r"\[`([^`]+)`\]\(([^)]+)\)", PAGE)
DESCRIBED = re.findall(r"^\| `([\w./]+)` \| +\S.* \|$", PAGE, re.MULTILINE)


def parts() -> Iterator[str]:
    """Yield the packages below the installed ones, and the modules beside them."""
    for name in INSTALLED:
        for module in (ROOT / name).rglob("__init__.py"):
            yield f"{module.parent.relative_to(ROOT).as_posix()}/"
        for module in (ROOT / name).glob("*.py"):
            if not module.name.startswith("__"):
                yield f"{name}/{module.name}"


@pytest.mark.parametrize("path", PATHS)
def test_what_the_page_names_exists(path: str) -> None:
    named = ROOT / path
    assert named.is_dir() if path.endswith("/") else named.is_file()


@pytest.mark.parametrize("part", sorted(parts()))
def test_every_package_is_described_once(part: str) -> None:
    assert DESCRIBED.count(part) == 1


def test_a_linked_path_leads_to_the_file_that_it_names() -> None:
    assert [(text, target) for text, target in LINKED_PATHS if target != f"../{text}"] == []


@pytest.mark.parametrize(
    "question",
    ["retries", "admission", "the SSE reader", "the record schema", "the cascade", "the calibrator"],
)
def test_the_page_says_where_to_look(question: str) -> None:
    answers = re.findall(rf"^\| Where (?:is|are) {question}\? \| (.+) \|$", PAGE, re.MULTILINE)
    assert len(answers) == 1
    assert re.match(r"\[`[\w/]+\.py`\]", answers[0])
