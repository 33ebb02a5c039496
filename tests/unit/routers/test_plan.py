"""The vocabulary says what it means."""

import pytest
from pydantic import ValidationError

from routers.plan import Answer, Both, Draft, Generate, Judge, Missing, Reason, Tier, Unavailable
from routers.router import Request, Router
from routers.strategies.direct import Direct


@pytest.mark.parametrize(
    ("tiers", "route"),
    [
        (["slm"], "slm"),
        (["llm"], "llm"),
        (["slm", "llm"], "slm+llm"),
        (["llm", "slm"], "slm+llm"),
        (["slm", "slm"], "slm"),
    ],
)
def test_the_route_names_each_tier_that_wrote_once(tiers: list[Tier], route: str) -> None:
    assert Answer([Draft(tier) for tier in tiers], Reason.POLICY).route == route


def test_unavailable_tells_tier_and_code_where_it_has_no_message() -> None:
    assert str(Unavailable("down", "slm")) == "slm: down"
    assert str(Unavailable("down", "slm", "no route to host")) == "no route to host"


def test_missing_names_the_ask_it_stands_for() -> None:
    ask = Generate("llm", because=Reason.LOW_CONFIDENCE)
    assert Missing(ask).ask is ask
    assert str(Missing(ask)) == "no recorded outcome of asking the llm because of low_confidence"


def test_missing_names_both_asks_of_a_race() -> None:
    race = Both(Generate("slm"), Generate("llm", because=Reason.OUTRAN))
    assert (
        str(Missing(race))
        == "no recorded outcome of asking the slm because of policy and the llm because of outran"
    )


def test_missing_names_who_should_have_judged() -> None:
    ask = Judge("slm", "?", ("yes", "no"))
    assert str(Missing(ask)) == "no recorded outcome of asking the slm because of judged"


def test_a_router_needs_nothing_and_measures_nothing_unless_it_says_so() -> None:
    plain = Router(kind="plain")
    assert plain.needs == {}
    assert not plain.reads_features
    assert Request().features == {}


@pytest.mark.parametrize(("follow", "needs"), [(True, {"llm": {"logprobs": "follow"}}), (False, {})])
def test_a_direct_router_needs_log_probabilities_to_follow_drafts(follow: bool, needs: object) -> None:
    assert Direct(tier="llm", follow=follow).needs == needs


def test_a_request_has_both_tiers_unless_told_otherwise() -> None:
    assert Request().tiers == {"slm", "llm"}


def test_a_router_without_a_strategy_has_no_plan() -> None:
    with pytest.raises(NotImplementedError):
        Router(kind="plain").plan(Request())


def test_a_router_takes_no_unknown_field_and_does_not_change() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Direct.model_validate({"tier": "slm", "tire": "llm"})
    with pytest.raises(ValidationError, match="frozen"):
        Direct(tier="slm").tier = "llm"
