"""Direct asks one tier, and the other only where that may help."""

import pytest
from support.router_builders import settled

from routers.fragments.fallback import RESTART_PATIENCE
from routers.plan import Answer, Draft, Generate, Reason, Tier, Unavailable
from routers.router import Request
from routers.strategies.direct import Direct
from routers.watch import ObservingWatch

OTHER: dict[Tier, Tier] = {"slm": "llm", "llm": "slm"}


@pytest.mark.parametrize("tier", ["slm", "llm"])
def test_its_tier_answers(tier: Tier) -> None:
    draft = Draft(tier)
    asks, answer = settled(Direct(tier=tier).plan(Request()), draft)
    assert asks == [Generate(tier)]
    assert answer == Answer((draft,), Reason.POLICY)


@pytest.mark.parametrize(("tier", "reason"), [("slm", Reason.NO_SLM), ("llm", Reason.NO_LLM)])
@pytest.mark.parametrize("why", ["down", "not_configured", "lost"])
def test_the_other_tier_answers_where_its_own_cannot(tier: Tier, reason: Reason, why: str) -> None:
    draft = Draft(OTHER[tier])
    asks, answer = settled(Direct(tier=tier).plan(Request()), Unavailable(why, tier), draft)
    assert asks == [Generate(tier), Generate(OTHER[tier], patience=RESTART_PATIENCE, because=reason)]
    assert answer == Answer((draft,), reason)


def test_a_prompt_too_long_for_one_tier_says_so() -> None:
    draft = Draft("llm")
    lost = Unavailable("context", "slm")
    _, answer = settled(Direct(tier="slm").plan(Request()), lost, draft)
    assert answer == Answer((draft,), Reason.CONTEXT_TOO_LONG)


@pytest.mark.parametrize(
    ("fallback", "lost"),
    [
        (False, Unavailable("down", "slm")),
        (True, Unavailable("rejected", "slm")),
        (True, Unavailable("lost", "slm", partial=Draft("slm"))),
    ],
    ids=["no fallback", "the request is at fault", "the client has a beginning"],
)
def test_it_fails_where_another_tier_must_not_or_cannot_help(fallback: bool, lost: Unavailable) -> None:
    asks, error = settled(Direct(tier="slm", fallback=fallback).plan(Request()), lost)
    assert len(asks) == 1
    assert error is lost


def test_it_fails_as_the_fallback_does() -> None:
    second = Unavailable("down", "llm")
    assert settled(Direct(tier="slm").plan(Request()), Unavailable("down", "slm"), second)[1] is second


def test_without_a_fallback_it_waits_for_a_restart() -> None:
    assert next(Direct(tier="slm", fallback=False).plan(Request())).patience == RESTART_PATIENCE
    only: frozenset[Tier] = frozenset(("slm",))
    assert next(Direct(tier="slm").plan(Request(tiers=only))).patience == RESTART_PATIENCE


@pytest.mark.parametrize(
    ("follow", "judgeable", "watched"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_it_follows_only_what_can_be_judged_and_only_on_demand(
    follow: bool, judgeable: bool, watched: bool
) -> None:
    ask = next(Direct(tier="slm", follow=follow).plan(Request(judgeable=judgeable)))
    assert (ask.watch is not None) == watched
    if ask.watch is not None:
        assert ask.watch() == ObservingWatch()


@pytest.mark.parametrize("tier", ["slm", "llm"])
def test_a_request_that_its_tier_cannot_serve_is_the_others_alone(tier: Tier) -> None:
    able = frozenset((OTHER[tier],))
    draft = Draft(OTHER[tier])
    asks, answer = settled(Direct(tier=tier).plan(Request(able=able)), draft)
    assert asks == [Generate(OTHER[tier], patience=RESTART_PATIENCE, because=Reason.NOT_CAPABLE)]
    assert answer == Answer((draft,), Reason.NOT_CAPABLE)
    lost = Unavailable("down", OTHER[tier])
    assert settled(Direct(tier=tier).plan(Request(able=able)), lost)[1] is lost


def test_a_tier_that_cannot_serve_the_request_is_no_fallback() -> None:
    lost = Unavailable("down", "llm")
    asks, error = settled(Direct(tier="llm").plan(Request(able=frozenset(("llm",)))), lost)
    assert asks == [Generate("llm", patience=RESTART_PATIENCE)]
    assert error is lost


@pytest.mark.parametrize(
    ("fallback", "request_"),
    [
        (False, Request(able=frozenset(("llm",)))),
        (True, Request(able=frozenset(("llm",)), tiers=frozenset(("slm",)))),
        (True, Request(able=frozenset())),
    ],
    ids=["no fallback", "the other is not there", "none is able"],
)
def test_a_tier_without_a_better_one_is_asked_what_it_may_not_be_able_to(
    fallback: bool, request_: Request
) -> None:
    (ask,), _ = settled(Direct(tier="slm", fallback=fallback).plan(request_), Draft("slm"))
    assert (ask.tier, ask.because) == ("slm", Reason.POLICY)


def test_a_tier_that_is_alone_says_itself_why_it_failed() -> None:
    lost = Unavailable("down", "slm")
    only: frozenset[Tier] = frozenset(("slm",))
    asks, error = settled(Direct(tier="slm").plan(Request(tiers=only)), lost)
    assert len(asks) == 1
    assert error is lost
