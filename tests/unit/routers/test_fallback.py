"""The fragments of plans for when a tier is lost, or an answer is begun."""

from typing import Any

import pytest
from support.router_builders import settled, tokens

from routers.fragments.fallback import (
    RESTART_PATIENCE,
    ask_capable_tier,
    ask_llm,
    ask_slm,
    fallback_reason,
    resume,
    splice,
)
from routers.plan import Answer, Draft, Generate, Reason, Tier, Unavailable, Usage, Verdict
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
    ],
)
def test_why_the_other_tier_answers(gone: Unavailable, reason: Reason) -> None:
    assert fallback_reason(gone) is reason


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
