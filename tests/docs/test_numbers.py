"""A measured number in the docs is a link to the value it was rounded from: see tools/docs/numbers.py."""

import json
from pathlib import Path

import pytest

from tools.docs.markdown import ROOT, pages
from tools.docs.numbers import unsourced, wrong_numbers

CLAIMING = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "strategies").glob("*.md")),
]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_numbers_agree_with_their_sources(page: Path) -> None:
    assert list(wrong_numbers(page.read_text(encoding="utf-8"), page)) == []


@pytest.mark.parametrize("page", CLAIMING, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_measured_number_is_without_a_source(page: Path) -> None:
    assert list(unsourced(page.read_text(encoding="utf-8"), page)) == []


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    values = {
        "all": {"auroc": [0.7342, 0.7]},
        "n": 12345,
        "share": 0.731,
        "a/b": 2,
        "on": True,
        "s": "x",
        "d": -0.4,
    }
    (tmp_path / "results" / "r.json").write_text(json.dumps(values))
    (tmp_path / "results" / "broken.json").write_text("{")
    return tmp_path / "page.md"


@pytest.mark.parametrize(
    "link",
    [
        "[0.73](results/r.json#/all/auroc/0)",
        "[0.7342](results/r.json#/all/auroc/0)",
        "[AUROC 0.7](results/r.json#/all/auroc/0)",
        "[12,345 drafts](results/r.json#/n)",
        "[73 %](results/r.json#/share)",
        "[73.1%](./results/r.json#/share)",
        "[2](results/r.json#/a~1b)",
        "[−0.4](results/r.json#/d)",
        "[a file, no number](results/r.json)",
        "`[0.9](results/r.json#/share)`",
    ],
)
def test_good_numbers(page: Path, link: str) -> None:
    assert list(wrong_numbers(f"It is {link}, measured.", page)) == []


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("[0.74](results/r.json#/all/auroc/0)", "the value there is 0.7342"),
        ("[0.730](results/r.json#/all/auroc/0)", "the value there is 0.7342"),
        ("[0.73 %](results/r.json#/share)", "the value there is 0.731"),
        ("[12,000](results/r.json#/n)", "the value there is 12345"),
        ("[0.4](results/r.json#/d)", "the value there is -0.4"),
        ("[1](results/r.json#/all/auroc/2)", "no '2' on the way to /all/auroc/2"),
        ("[1](results/r.json#/none)", "no 'none' on the way to /none"),
        ("[1](results/r.json#/all)", "expected a number there, found dict"),
        ("[1](results/r.json#/on)", "expected a number there, found bool"),
        ("[1](results/r.json#/s)", "expected a number there, found str"),
        ("[1](results/absent.json#/n)", "No such file or directory"),
        ("[1](results/broken.json#/n)", "is not JSON"),
        ("[1 to 2](results/r.json#/n)", "expected one number, found 2"),
        ("[many](results/r.json#/n)", "expected one number, found 0"),
    ],
)
def test_bad_numbers(page: Path, link: str, problem: str) -> None:
    (found,) = wrong_numbers(f"first\nIt is {link}.", page)
    assert found.startswith(f"page.md:2: {link}: {problem}")


@pytest.mark.parametrize(
    "line",
    [
        "It takes [12](results/r.json#/n) µs.",
        "It takes [12 µs](results/r.json#/n) a request.",
        "It reaches AUROC [0.73](results/r.json#/all/auroc/0).",
        "It rests 5 seconds, five times.",
        "Python 3.11, port 8000, 720 items, 1.5B parameters, 2 x86 machines",
        "The limit is 30 ms. <!-- not measured -->",
        "`sleep 30 ms`",
        "```\n30 ms\n```",
        "<!-- generated:settings -->\n30 ms\n<!-- /generated -->",
        "[decision 0002](decisions/0002-hot-path.md)",
    ],
)
def test_lines_that_claim_nothing(page: Path, line: str) -> None:
    assert list(unsourced(line, page)) == []


@pytest.mark.parametrize(
    ("line", "claim"),
    [
        ("It takes 30 ms.", "0 ms"),
        ("It takes 30us.", "0us"),
        ("It takes 12 µs a request.", "2 µs"),
        ("It writes 50 tok/s.", "0 tok/s"),
        ("It serves 900 req/s.", "0 req/s"),
        ("It costs 1.4 × bare.", "4 ×"),
        ("It saves 73 % of the cost.", "3 %"),
        ("It saves 73% of the cost.", "3%"),
        ("It is 2.8 times faster.", "8 times faster"),
        ("It needs 120 MiB.", "0 MiB"),
        ("It reaches AUROC 0.73.", "AUROC 0"),
        ("It reaches an AUROC of 0.73.", "AUROC of 0"),
        ("| all | 12 µs | [13](results/r.json#/n) µs |", "2 µs"),
        ("It takes [30 ms](results/r.json).", "0 ms"),
    ],
)
def test_lines_that_claim_without_a_source(page: Path, line: str, claim: str) -> None:
    (found,) = unsourced(f"first\n\n{line}", page)
    assert found.startswith(f"page.md:3: {claim!r} has no link to its source")
