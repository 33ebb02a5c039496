"""What pages say of the code is what the code says now."""

import re
from pathlib import Path

import pytest

from policies.records.schema import CallLine, ExchangeLine, TokensLine, UsageLine
from routers.plan import Reason
from routers.strategies.cascade import Cascade
from tools.docs.generate import SECTIONS, current
from tools.docs.markdown import ROOT
from tools.docs.tables.error_codes import WORDS, codes
from tools.docs.tables.model_fields import meanings

PAGES = sorted((ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_sections_are_current(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert current(text) == text, "bring it up to date with: python -m tools.docs.generate"


def test_every_section_stands_in_one_page() -> None:
    found = [
        name for page in PAGES for name in re.findall(r"<!-- generated:([\w-]+) -->\n", page.read_text())
    ]
    assert sorted(found) == sorted(SECTIONS)


def test_a_section_is_replaced_and_the_rest_is_left() -> None:
    text = "before\n<!-- generated:reasons -->\nstale\n<!-- /generated -->\nafter\n"
    made = current(text)
    assert made.startswith("before\n<!-- generated:reasons -->\n\n| reason | meaning |")
    assert made.endswith("|\n\n<!-- /generated -->\nafter\n")
    assert "stale" not in made
    assert current(made) == made


def test_an_unknown_section_is_an_error() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        current("<!-- generated:nonsense -->\n<!-- /generated -->")


def test_meanings_are_read_from_under_the_members() -> None:
    assert meanings(Reason)["EMPTY"] == "The draft had no text."
    assert meanings(Cascade)["accept"] == "Lowest confidence of a finished draft that is served."


def test_every_code_has_words_and_a_status_where_the_source_names_one() -> None:
    found = codes()
    assert found.keys() == WORDS.keys()
    assert found["body_too_large"] == {413}
    assert found["rate_limit_exceeded"] == {429}
    assert found["missing_required_parameter"] == {400}


@pytest.mark.parametrize("model", [ExchangeLine, CallLine, UsageLine, TokensLine])
def test_the_records_page_names_every_field(model: type[ExchangeLine]) -> None:
    page = (ROOT / "docs" / "records.md").read_text(encoding="utf-8")
    assert [name for name in model.model_fields if f"`{name}`" not in page] == []
