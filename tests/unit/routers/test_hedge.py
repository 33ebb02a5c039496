"""Every branch of the hedge, the ends of its races sent by hand."""

from typing import Any

import pytest
from pydantic import ValidationError
from support.router_builders import calibrator, settled

from routers.fragments.fallback import RESTART_PATIENCE
from routers.plan import Answer, Both, Draft, Generate, Raced, Reason, Tier, Unavailable, Verdict
from routers.router import Request
from routers.strategies.hedge import Hedge
from routers.watch import ConfidenceWatch, ObservingWatch

HEDGE = Hedge(accept=0.6, commit=0.8, give_up=0.2, calibrator=calibrator())
SLM_ONLY = frozenset[Tier](["slm"])
LLM_ONLY = frozenset[Tier](["llm"])
COMMITTED = Draft(
    "slm", "yes", finish="stop", reason=Reason.COMMITTED, confidence=0.9, kept=1, committed_text="yes"
)
DOUBTED = Draft(
    "slm", "hm", finish="stop", verdict=Verdict.GIVE_UP, reason=Reason.LOW_CONFIDENCE, confidence=0.3
)
STOPPED = Draft("slm", "h", verdict=Verdict.GIVE_UP, reason=Reason.GAVE_UP, confidence=0.1)
RUNNING = Draft("slm", "y", verdict=Verdict.CONTINUE, confidence=0.5)
LARGE = Draft("llm", "better", finish="stop")
CUT = Draft("llm", verdict=Verdict.CONTINUE)
SMALL = Draft("slm", "again", finish="stop", confidence=0.4)
BEGUN = Draft("slm", "The be", confidence=0.9, kept=3)


def lost(why: str = "down", tier: Tier = "slm", partial: Draft | None = None) -> Unavailable:
    return Unavailable(why, tier, partial=partial)


def gone(why: str = "down", partial: Draft | None = None) -> Unavailable:
    return lost(why, "llm", partial)


def run(*outcomes: Any, **request: Any) -> tuple[list[Any], Answer | Unavailable]:
    return settled(HEDGE.plan(Request(**request)), *outcomes)


def asked(asks: list[Any]) -> list[tuple[str, Reason]]:
    """What was asked after the race."""
    assert isinstance(asks[0], Both)
    return [(ask.tier, ask.because) for ask in asks[1:]]


# --- the race


@pytest.mark.parametrize("stream", [True, False])
def test_both_are_asked_together_and_only_the_small_one_is_watched(stream: bool) -> None:
    (both,), _ = run(Raced(COMMITTED, CUT), stream=stream)
    small, large = both
    assert (small.tier, small.because, small.patience) == ("slm", Reason.POLICY, 0.0)
    watch = small.watch()
    assert isinstance(watch, ConfidenceWatch)
    assert (watch.accept, watch.commit, watch.give_up) == (0.6, 0.8 if stream else None, 0.2)
    assert large == Generate("llm", because=Reason.OUTRAN)


@pytest.mark.parametrize("large", [CUT, gone("busy")], ids=["outrun", "not to be had"])
@pytest.mark.parametrize("reason", [Reason.CONFIDENT, Reason.COMMITTED, None])
def test_a_draft_that_commits_first_is_the_answer(reason: Reason | None, large: Draft | Unavailable) -> None:
    draft = COMMITTED._replace(reason=reason)
    asks, answer = run(Raced(draft, large))
    assert asked(asks) == []
    assert answer == Answer((draft,), reason or Reason.CONFIDENT, 0.9)


@pytest.mark.parametrize(
    ("small", "reason"),
    [
        (RUNNING, Reason.OUTRAN),
        (DOUBTED, Reason.LOW_CONFIDENCE),
        (STOPPED, Reason.GAVE_UP),
        (STOPPED._replace(reason=None), Reason.OUTRAN),
    ],
    ids=["outrun", "doubted", "stopped", "without a reason"],
)
def test_the_large_models_answer_says_why_it_is_not_the_drafts(small: Draft, reason: Reason) -> None:
    asks, answer = run(Raced(small, LARGE))
    assert asked(asks) == []
    assert answer == Answer((LARGE,), reason, small.confidence)


@pytest.mark.parametrize(
    ("why", "reason"),
    [("down", Reason.NO_SLM), ("rejected", Reason.NO_SLM), ("context", Reason.CONTEXT_TOO_LONG)],
)
def test_the_large_model_answers_where_the_small_one_cannot_be_had(why: str, reason: Reason) -> None:
    assert run(Raced(lost(why), LARGE))[1] == Answer((LARGE,), reason)


# --- neither committed


def test_a_doubted_draft_stands_where_the_large_model_cannot_be_had() -> None:
    asks, answer = run(Raced(DOUBTED, gone()))
    assert asked(asks) == []
    assert answer == Answer((DOUBTED,), Reason.NO_LLM, 0.3)


def test_a_stopped_draft_is_written_again_where_the_large_model_cannot_be_had() -> None:
    asks, answer = run(Raced(STOPPED, gone()), SMALL)
    assert asked(asks) == [("slm", Reason.NO_LLM)]
    assert (type(asks[1].watch()), asks[1].patience) == (ObservingWatch, RESTART_PATIENCE)
    assert answer == Answer((SMALL,), Reason.NO_LLM, 0.4)


@pytest.mark.parametrize("small", [DOUBTED, STOPPED, lost()], ids=["doubted", "stopped", "lost"])
def test_a_large_model_lost_after_its_first_words_fails_the_exchange(small: Draft | Unavailable) -> None:
    midway = gone("lost", Draft("llm"))
    asks, error = run(Raced(small, midway))
    assert asked(asks) == []
    assert error is midway


def test_with_neither_to_be_had_the_small_model_is_waited_for() -> None:
    asks, answer = run(Raced(lost(), gone()), SMALL)
    assert asked(asks) == [("slm", Reason.NO_LLM)]
    assert asks[1].patience == RESTART_PATIENCE
    assert answer == Answer((SMALL,), Reason.NO_LLM, 0.4)


@pytest.mark.parametrize("why", ["context", "rejected"])
def test_what_another_try_cannot_mend_is_the_error_where_the_large_model_fails_too(why: str) -> None:
    first, second = lost(why), gone()
    asks, error = run(Raced(first, second))
    assert asked(asks) == []
    assert error is first
    assert first.__cause__ is second


def test_a_large_models_unfinished_answer_is_asked_for_again() -> None:
    asks, answer = run(Raced(lost(), CUT), LARGE)
    assert asked(asks) == [("llm", Reason.NO_SLM)]
    assert answer == Answer((LARGE,), Reason.NO_SLM)
    asks, answer = run(Raced(DOUBTED, CUT), LARGE)
    assert asked(asks) == [("llm", Reason.LOW_CONFIDENCE)]
    assert answer == Answer((LARGE,), Reason.LOW_CONFIDENCE, 0.3)


def test_a_race_out_of_time_is_over_once_the_door_has_said_so() -> None:
    over = lost("ceiling")
    asks, error = run(Raced(lost("ceiling"), gone("ceiling")), over)
    assert asked(asks) == [("slm", Reason.NO_LLM)]
    assert error is over


# --- a winner that collapses


def test_a_winner_lost_midway_is_continued_by_its_writer() -> None:
    asks, answer = run(Raced(lost("lost", partial=BEGUN), CUT), SMALL, stream=True)
    assert asked(asks) == [("slm", Reason.COMMITTED)]
    assert (asks[1].prefix, asks[1].patience) == ("The be", RESTART_PATIENCE)
    assert answer == Answer((BEGUN, SMALL), Reason.COMMITTED, 0.9)


@pytest.mark.parametrize("large", [CUT, gone("busy")], ids=["outrun", "not to be had"])
def test_a_winner_given_up_after_a_sentence_is_continued_by_the_large_model(
    large: Draft | Unavailable,
) -> None:
    begun = STOPPED._replace(text="Yes. No", kept=2, committed_text="Yes.")
    asks, answer = run(Raced(begun, large), LARGE, stream=True)
    assert asked(asks) == [("llm", Reason.GAVE_UP)]
    assert asks[1].prefix == "Yes."
    assert isinstance(answer, Answer)
    assert ([part.text for part in answer.parts], answer.route) == (["Yes.", "better"], "slm+llm")


# --- no race


@pytest.mark.parametrize(
    ("request_", "outcome", "ask"),
    [
        ({"tiers": SLM_ONLY}, SMALL, ("slm", Reason.NO_LLM)),
        ({"able": SLM_ONLY}, SMALL, ("slm", Reason.NO_LLM)),
        ({"able": LLM_ONLY}, LARGE, ("llm", Reason.NOT_CAPABLE)),
        ({"judgeable": False}, LARGE, ("llm", Reason.NOT_JUDGED)),
    ],
    ids=["no llm", "the llm can't", "the slm can't", "not judged"],
)
def test_where_there_is_nothing_to_decide_there_is_no_race(
    request_: dict[str, Any], outcome: Draft, ask: tuple[str, Reason]
) -> None:
    asks, answer = run(outcome, **request_)
    assert [(each.tier, each.because) for each in asks] == [ask]
    assert answer == Answer((outcome,), ask[1], outcome.confidence)


# --- its fields


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"accept": 0.5, "commit": 0.4}, "commit must be at least accept"),
        ({"accept": 0.5, "release": "splice"}, "release: splice needs commit"),
        ({"accept": 0.5, "judge": {}}, "Extra inputs"),
        ({"accept": 0.5, "gate": {}}, "Extra inputs"),
    ],
)
def test_what_does_not_fit_together_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Hedge.model_validate({**fields, "calibrator": calibrator()})
