"""Passages are judged one by one, the best stand at both ends, and the plan around which this happens hears nothing."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.router_builders import calibrator, settled

from routers.fragments.passage_filter import (
    LIKELIHOOD_PROMPT,
    MAX_PASSAGES,
    VERDICT_PROMPT,
    PassageFilter,
    center_log_odds,
    filter_passages,
    select_passages,
)
from routers.plan import (
    Answer,
    Both,
    Draft,
    Generate,
    Judge,
    Judged,
    Raced,
    Reason,
    Unavailable,
    Verdict,
)
from routers.router import Request
from routers.strategies.cascade import Cascade
from routers.strategies.direct import Direct
from routers.strategies.hedge import Hedge

RAW: dict[str, Any] = {"calibrated": False, "by": "verdict"}
P = [0.2, 0.9, 0.6, 0.8, 0.7]
DRAFT = Draft("llm", "x", finish="stop")
DOUBTED = Draft(
    "slm", "y", finish="stop", verdict=Verdict.GIVE_UP, reason=Reason.LOW_CONFIDENCE, confidence=0.3
)


def yes(p: float) -> Judged:
    return Judged({"yes": p, "no": 1.0 - p}, 0.9)


# --- which, and where


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, (1, 4, 2, 3)),
        ({"order": "best_first"}, (1, 3, 4, 2)),
        ({"order": "given"}, (1, 2, 3, 4)),
        ({"bar": 0.75}, (1, 3)),
        ({"bar": 0.95}, (1,)),
        ({"bar": 0.95, "least": 0}, ()),
        ({"bar": 0.95, "least": 3}, (1, 4, 3)),
        ({"most": 2}, (1, 3)),
        ({"bar": 0.0}, (1, 4, 0, 2, 3)),
        ({"bar": 0.9, "least": 9}, (1, 4, 0, 2, 3)),
    ],
    ids=str,
)
def test_the_best_are_kept_and_stand_at_both_ends(fields: dict[str, Any], shown: tuple[int, ...]) -> None:
    assert PassageFilter(**RAW | fields).select(P) == shown


def test_equals_stay_as_they_came() -> None:
    assert PassageFilter(order="best_first").select([0.5] * 3) == (0, 1, 2)


@given(st.lists(st.floats(0.0, 1.0), max_size=MAX_PASSAGES), st.floats(0.0, 1.0), st.booleans())
def test_those_dropped_are_worse_than_those_kept(p: list[float], bar: float, against: bool) -> None:
    shown = PassageFilter(bar=bar, calibrated=against).select(p)
    dropped = set(range(len(p))) - set(shown)
    assert len(set(shown)) == len(shown) >= min(1, len(p))
    if shown and dropped:
        assert min(p[place] for place in shown) >= max(p[place] for place in dropped)


def test_what_all_have_in_common_says_nothing() -> None:
    """A judge that seldom says yes is read as one that often does."""
    low, high = center_log_odds([0.02, 0.05, 0.02]), center_log_odds([0.9, 0.96, 0.9])
    assert [one > 0.5 for one in low] == [one > 0.5 for one in high] == [False, True, False]
    assert center_log_odds([0.3]) == [pytest.approx(0.5)]
    assert center_log_odds([]) == []
    assert 0.0 < center_log_odds([0.0, 1.0])[0] < 0.01


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"bar": 1.5}, "less than or equal to 1"),
        ({"most": 0}, "greater than or equal to 1"),
        ({"least": 4, "most": 3}, r"least must not be over most \(3\), found 4"),
        ({"order": "random"}, "'edges', 'best_first' or 'given'"),
        ({"keep": 3}, "Extra inputs are not permitted"),
    ],
    ids=str,
)
def test_a_filter_that_cannot_be_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        PassageFilter.model_validate(fields)


# --- the fragment


def test_each_passage_is_judged_by_itself() -> None:
    asks, shown = settled(select_passages(PassageFilter(tier="llm", **RAW), 3), yes(0.4), yes(0.9), yes(0.6))  # type: ignore[arg-type]
    assert asks == [
        Judge("llm", VERDICT_PROMPT, ("yes", "no"), because=Reason.RELEVANCE, passage=place)
        for place in range(3)
    ]
    assert shown == (1, 2)


def test_by_likelihood_nothing_is_asked_but_read() -> None:
    asks, shown = settled(
        select_passages(PassageFilter(), 2), Judged({"request": 0.01}, 1.0), Judged({"request": 0.02}, 1.0)
    )  # type: ignore[arg-type]
    assert asks == [
        Judge("slm", LIKELIHOOD_PROMPT, (), because=Reason.RELEVANCE, passage=place) for place in range(2)
    ]
    assert shown == (1,)
    assert LIKELIHOOD_PROMPT.endswith("{request}")


def test_a_server_that_cannot_tell_a_likelihood_is_asked_for_verdicts() -> None:
    asks, shown = settled(
        select_passages(PassageFilter(), 2), Unavailable("incapable", "slm"), yes(0.2), yes(0.1)
    )  # type: ignore[arg-type]
    assert [(ask.labels, ask.passage) for ask in asks] == [((), 0), (("yes", "no"), 0), (("yes", "no"), 1)]  # type: ignore[attr-defined]
    assert shown == (0,)


@pytest.mark.parametrize(
    "outcomes",
    [[Unavailable("down", "slm")], [Judged({"request": 0.1}, 1.0), Unavailable("incapable", "slm")]],
    ids=["down", "midway"],
)
def test_else_there_is_no_judgement(outcomes: list[Any]) -> None:
    assert settled(select_passages(PassageFilter(), 2), *outcomes)[1] is outcomes[-1]  # type: ignore[arg-type]


def test_the_question_comes_before_what_differs() -> None:
    """So that servers read it once for all passages."""
    assert 0 < VERDICT_PROMPT.index("{request}") < VERDICT_PROMPT.index("{passage}")
    assert VERDICT_PROMPT.count("{") == 2


# --- around a plan

JUDGING: dict[str, Any] = {"accept": 0.6, "calibrator": calibrator()}
LOST = Unavailable("down", "llm")
BROKEN = Unavailable("lost", "llm", partial=DRAFT)


@pytest.mark.parametrize(
    ("router", "outcomes"),
    [
        (Direct(tier="llm"), [DRAFT]),
        (Direct(tier="llm"), [LOST, DRAFT]),
        (Direct(tier="llm"), [BROKEN]),
        (Cascade(**JUDGING), [DOUBTED, LOST]),
        (Cascade(**JUDGING), [DOUBTED, DRAFT]),
        (Hedge(**JUDGING), [Raced(DOUBTED, DRAFT)]),
    ],
    ids=str,
)
def test_a_plan_goes_its_way_and_its_writers_are_shown_what_was_kept(
    router: Any, outcomes: list[Any]
) -> None:
    request = Request(passages=2)
    expected, answer = settled(router.plan(request), *outcomes)
    asks, found = settled(
        filter_passages(router.plan(request), PassageFilter(by="verdict"), request),
        yes(0.1),
        yes(0.9),
        *outcomes,
    )
    assert found == answer
    assert [type(ask) for ask in asks] == [Judge, Judge, *(type(ask) for ask in expected)]
    for ask, plain in zip(asks[2:], expected, strict=True):
        for leg, alone in zip(_legs(ask), _legs(plain), strict=True):
            assert leg.passages == (1,)
            assert (leg.tier, leg.because, leg.prefix) == (alone.tier, alone.because, alone.prefix)


def _legs(ask: Any) -> tuple[Generate, ...]:
    return (ask.a, ask.b) if isinstance(ask, Both) else (ask,)


@pytest.mark.parametrize("before", [[], [yes(0.9)]], ids=["at once", "midway"])
def test_without_a_judge_all_passages_are_shown_as_given(before: list[Any]) -> None:
    request = Request(passages=2)
    plan = filter_passages(Direct(tier="llm").plan(request), PassageFilter(by="verdict"), request)
    asks, answer = settled(plan, *before, Unavailable("busy", "slm"), DRAFT)
    assert asks[-1].passages is None
    assert isinstance(answer, Answer)


def test_a_plan_that_is_left_is_closed() -> None:
    closed = []

    def plan() -> Any:
        try:
            yield Generate("llm")
        finally:
            closed.append(True)

    wrapped = filter_passages(plan(), PassageFilter(by="verdict"), Request(passages=1))
    next(wrapped)
    wrapped.send(yes(0.5))
    wrapped.close()
    assert closed == [True]
