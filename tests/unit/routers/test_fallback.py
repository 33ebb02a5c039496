"""The fragments of plans for when a tier is lost, or an answer is begun."""

from typing import Any

import pytest
from support.router_builders import settled, tokens

from routers.fragments.fallback import (
    RESTART_PATIENCE,
    answer_with,
    ask_capable_tier,
    ask_llm,
    ask_slm,
    fallback_reason,
    refuse_downgrades,
    resume,
    splice,
)
from routers.plan import (
    Answer,
    Both,
    Draft,
    Generate,
    Judge,
    Plan,
    Raced,
    Reason,
    Tier,
    Unavailable,
    Usage,
    Verdict,
)
from routers.watch import ObservingWatch

SMALL, LARGE = Draft("slm", "small", finish="stop", confidence=0.4), Draft("llm", "large", finish="stop")
REST = Draft("slm", " rest", finish="stop", confidence=0.5)
BEGUN = Draft("slm", "The be", confidence=0.9, kept=3)
SPOKEN = Draft(
    "slm",
    "Yes. Perhaps",
    tokens(-0.1, -0.1, -4.0),
    usage=Usage(7, 9, 3),
    verdict=Verdict.GIVE_UP,
    reason=Reason.GAVE_UP,
    confidence=0.1,
    kept=2,
    committed_text="Yes.",
)
KEPT = SPOKEN._replace(text="Yes.", tokens=SPOKEN.tokens[:2], usage=Usage(7, 2, 3, estimated=True))


def lost(why: str = "down", tier: Tier = "slm", partial: Draft | None = None) -> Unavailable:
    return Unavailable(why, tier, partial=partial)


@pytest.mark.parametrize(
    ("gone", "reason"),
    [
        (lost("down"), Reason.NO_SLM),
        (lost("down", "llm"), Reason.NO_LLM),
        (lost("context"), Reason.CONTEXT_TOO_LONG),
        (lost("context", "llm"), Reason.CONTEXT_TOO_LONG),
        (lost("misconfigured", "llm"), Reason.LLM_MISCONFIGURED),
        (lost("misconfigured"), Reason.NO_SLM),
    ],
)
def test_why_the_other_tier_answers(gone: Unavailable, reason: Reason) -> None:
    assert fallback_reason(gone) is reason


# --- an operator's mistake

WRONG = lost("misconfigured", "llm")
LEGS = Generate("slm"), Generate("llm")


def race() -> Plan:
    """A plan that makes up for whatever fails."""
    raced = yield Both(*LEGS)
    assert isinstance(raced, Raced)
    return answer_with(SMALL, Reason.NO_LLM)


def judge() -> Plan:
    try:
        yield Judge("llm", "?", ("yes", "no"))
    except Unavailable:
        return answer_with(SMALL, Reason.CONFIDENT)
    raise AssertionError


def test_a_large_model_that_is_misconfigured_ends_the_plan() -> None:
    assert settled(refuse_downgrades(ask_llm(Reason.POLICY)), WRONG)[1] is WRONG


@pytest.mark.parametrize("why", ["down", "busy", "refused", "context"])
def test_a_large_model_that_fails_otherwise_leaves_the_plan_its_fallback(why: str) -> None:
    answer = settled(refuse_downgrades(ask_llm(Reason.POLICY)), lost(why, "llm"), SMALL)[1]
    assert answer == Answer((SMALL,), Reason.NO_LLM, 0.4)


def test_a_policy_may_let_the_small_model_make_up_for_it() -> None:
    answer = settled(ask_llm(Reason.POLICY), WRONG, SMALL)[1]
    assert answer == Answer((SMALL,), Reason.LLM_MISCONFIGURED, 0.4)


def test_a_judgement_that_is_not_to_be_had_is_the_plans_matter() -> None:
    assert settled(refuse_downgrades(judge()), WRONG)[1] == Answer((SMALL,), Reason.CONFIDENT, 0.4)


@pytest.mark.parametrize(
    ("small", "is_error"),
    [
        (SMALL, False),
        (SMALL._replace(verdict=Verdict.GIVE_UP), True),
        (SPOKEN, False),
        (lost(), True),
        (lost(partial=BEGUN), False),
    ],
)
@pytest.mark.parametrize("swap", [False, True])
def test_a_race_is_lost_with_its_large_model_unless_the_small_one_has_committed(
    small: Draft | Unavailable, is_error: bool, swap: bool
) -> None:
    raced = Raced(WRONG, small) if swap else Raced(small, WRONG)
    end = settled(refuse_downgrades(race()), raced)[1]
    assert (end is WRONG) is is_error


# --- the small model alone


@pytest.mark.parametrize("observe", [None, ObservingWatch])
def test_the_small_model_alone_is_waited_for_and_its_answer_stands(observe: Any) -> None:
    asks, answer = settled(ask_slm(observe), SMALL)
    assert asks == [Generate("slm", observe, patience=RESTART_PATIENCE, because=Reason.NO_LLM)]
    assert answer == Answer((SMALL,), Reason.NO_LLM, 0.4)


def test_what_it_had_delivered_is_gone_on_from() -> None:
    asks, answer = settled(ask_slm(ObservingWatch), lost("lost", partial=BEGUN), REST)
    assert asks[1] == Generate("slm", ObservingWatch, "The be", RESTART_PATIENCE, Reason.NO_LLM)
    assert answer == Answer((BEGUN, REST), Reason.NO_LLM, 0.9)


@pytest.mark.parametrize("partial", [None, Draft("slm"), Draft("slm", kept=3)])
def test_without_a_text_to_go_on_from_its_loss_is_the_end(partial: Draft | None) -> None:
    """What was relayed unread can't be continued, and must not be begun anew after it."""
    first = lost("lost", partial=partial)
    asks, error = settled(ask_slm(None), first)
    assert len(asks) == 1
    assert error is first


def test_a_beginning_lost_twice_is_the_end() -> None:
    again = lost("lost", partial=REST)
    assert settled(resume(BEGUN, None, Reason.COMMITTED), again)[1] is again


# --- the large model alone


def test_the_large_models_answer_stands() -> None:
    asks, answer = settled(ask_llm(Reason.TOO_HARD), LARGE)
    assert asks == [Generate("llm", because=Reason.TOO_HARD)]
    assert answer == Answer((LARGE,), Reason.TOO_HARD)


def test_the_small_model_is_its_fallback() -> None:
    asks, answer = settled(ask_llm(Reason.TOO_HARD, ObservingWatch), lost("busy", "llm"), SMALL)
    assert asks[1] == Generate("slm", ObservingWatch, patience=RESTART_PATIENCE, because=Reason.NO_LLM)
    assert answer == Answer((SMALL,), Reason.NO_LLM, 0.4)


@pytest.mark.parametrize("gone", [lost("rejected", "llm"), lost("lost", "llm", Draft("llm"))])
def test_but_not_for_a_request_at_fault_or_an_answer_begun(gone: Unavailable) -> None:
    asks, error = settled(ask_llm(Reason.TOO_HARD, ObservingWatch), gone)
    assert len(asks) == 1
    assert error is gone


@pytest.mark.parametrize("tier", ["slm", "llm"])
def test_the_only_capable_tier_is_waited_for_and_has_no_fallback(tier: Tier) -> None:
    asks, answer = settled(ask_capable_tier(tier), Draft(tier))
    assert asks == [Generate(tier, patience=RESTART_PATIENCE, because=Reason.NOT_CAPABLE)]
    assert answer == Answer((Draft(tier),), Reason.NOT_CAPABLE)
    gone = lost("down", tier)
    assert settled(ask_capable_tier(tier), gone)[1] is gone


# --- a splice


def test_the_large_model_goes_on_from_what_was_committed_and_no_further() -> None:
    asks, answer = settled(splice(SPOKEN, ObservingWatch, Reason.GAVE_UP), LARGE)
    assert asks == [Generate("llm", prefix="Yes.", because=Reason.GAVE_UP)]
    assert answer == Answer((KEPT, LARGE), Reason.GAVE_UP, 0.1)


def test_where_the_large_model_cannot_be_had_a_finished_draft_stands_whole() -> None:
    finished = SPOKEN._replace(finish="stop")
    asks, answer = settled(splice(finished, ObservingWatch, Reason.LOW_CONFIDENCE), lost("down", "llm"))
    assert len(asks) == 1
    assert answer == Answer((finished,), Reason.NO_LLM, 0.1)


def test_where_the_large_model_cannot_be_had_a_stopped_draft_is_gone_on_with() -> None:
    asks, answer = settled(splice(SPOKEN, ObservingWatch, Reason.GAVE_UP), lost("busy", "llm"), REST)
    assert asks[1] == Generate("slm", ObservingWatch, "Yes.", RESTART_PATIENCE, Reason.NO_LLM)
    assert answer == Answer((KEPT, REST), Reason.NO_LLM, 0.1)


@pytest.mark.parametrize("finish", [None, "stop"])
def test_a_large_model_lost_after_the_seam_is_the_end(finish: str | None) -> None:
    midway = lost("lost", "llm", Draft("llm"))
    begun = SPOKEN._replace(finish=finish)
    asks, error = settled(splice(begun, ObservingWatch, Reason.GAVE_UP), midway)
    assert len(asks) == 1
    assert error is midway
