"""Policies that stand in pages can be used as they stand there, and pages leave out no strategy and no key."""

import re
from pathlib import Path

import pytest
import yaml

from gateway.exchange.smallfirst_field import SmallfirstField
from policies.explain.plan_tree import build_tree, to_lines
from policies.loading.layers import BUILT_IN, list_policy_files
from policies.loading.loader import load_policies, load_policy
from policies.schema.split import Split
from policies.schema.strategies import STRATEGIES
from routers.plan import BOTH_TIERS, Reason, Tier
from routers.router import Request, Router
from routers.strategies.difficulty import FEATURES
from tools.docs.markdown import ROOT, fenced, pages
from tools.docs.tables.built_in_policies import comment
from tools.docs.tables.strategies import VARIANTS, variants

DOCS = ROOT / "docs"
STRATEGY_PAGES = [DOCS / "strategies" / f"{kind}.md" for kind in STRATEGIES]


def blocks(info: str) -> list[tuple[str, str]]:
    return [
        (f"{page.stem}-{number}", block)
        for page in pages()
        for number, block in enumerate(fenced(page.read_text(encoding="utf-8"), info), 1)
    ]


POLICIES, SPLITS = dict(blocks("yaml policy")), dict(blocks("yaml split"))


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_in_a_page_loads(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(POLICIES[name])
    assert load_policy(path).name == name


@pytest.mark.parametrize("name", SPLITS)
def test_a_split_in_a_page_is_between_policies_that_exist(name: str) -> None:
    split = Split.model_validate({"name": name, **yaml.safe_load(SPLITS[name])})
    assert split.split.between.keys() <= load_policies().keys()


@pytest.mark.parametrize("page", STRATEGY_PAGES, ids=lambda page: page.stem)
def test_every_strategy_has_a_page_of_its_own(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    (example,) = fenced(text, "yaml policy")
    assert yaml.safe_load(example)["router"]["kind"] == page.stem
    assert f"<!-- generated:{page.stem} -->" in text
    assert len(fenced(text, "mermaid")) == 2
    found = re.findall(r"^## (Fields|Reasons|What it costs)$", text, re.MULTILINE)
    assert found == ["Fields", "Reasons", "What it costs"]
    assert f"]({page.name})" in (page.parent / "README.md").read_text(encoding="utf-8")


def reasons_named(page: Path) -> set[str]:
    _, _, told = page.read_text(encoding="utf-8").partition("\n## Reasons\n")
    return set(re.findall(r"`(\w+)`", told.partition("\n## ")[0])) - {"direct"}


@pytest.mark.parametrize("page", STRATEGY_PAGES, ids=lambda page: page.stem)
def test_the_reasons_of_a_strategy_are_reasons(page: Path) -> None:
    assert reasons_named(page) <= set(Reason)


TIERS: list[frozenset[Tier]] = [BOTH_TIERS, frozenset(("slm",)), frozenset(("llm",))]
REQUESTS = [
    Request(
        stream=stream, judgeable=judgeable, tiers=tiers, able=able, features=dict.fromkeys(FEATURES, turns)
    )
    for stream in (True, False)
    for judgeable in (True, False)
    for tiers in TIERS
    for able in TIERS
    for turns in (1.0, 99.0)
]


@pytest.mark.parametrize(
    "router", [pytest.param(router, id=f"{kind} {told}") for kind, told, router in variants()]
)
def test_a_strategys_page_names_the_reasons_that_its_plan_can_end_in(router: Router) -> None:
    told = "\n".join(line for request in REQUESTS for line in to_lines(build_tree(router, request, depth=3)))
    ended = set(re.findall(r"\(reason (\w+)\)", told))
    assert ended
    assert ended <= reasons_named(DOCS / "strategies" / f"{router.kind}.md")


def test_every_reason_but_those_of_policies_is_some_strategys() -> None:
    assert set[str]().union(*map(reasons_named, STRATEGY_PAGES)) == set(Reason) - {
        Reason.AFFINITY,
        Reason.COMPRESSED,
        Reason.GUARDED,
        Reason.LEAK,
        Reason.RELEVANCE,
    }


def test_every_strategy_says_what_it_needs() -> None:
    assert VARIANTS.keys() == STRATEGIES.keys()


def test_the_difficulty_page_names_every_measure() -> None:
    text = (DOCS / "strategies" / "difficulty.md").read_text(encoding="utf-8")
    assert [name for name in FEATURES if f"`{name}`" not in text] == []


def test_the_http_page_names_every_key_of_the_smallfirst_field() -> None:
    text = (DOCS / "http.md").read_text(encoding="utf-8")
    assert [name for name in SmallfirstField.model_fields if f"| `{name}` |" not in text] == []


@pytest.mark.parametrize("path", list_policy_files(BUILT_IN), ids=lambda path: path.stem)
def test_every_built_in_policy_says_who_should_use_it(path: Path) -> None:
    assert comment(path).startswith("For ")


def test_the_readme_lists_the_policies_that_the_gateway_starts_with() -> None:
    (listed,) = re.findall(
        r"^ +policies +(.*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert listed.split(", ") == list(load_policies())
