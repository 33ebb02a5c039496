"""Every branch of the cascade, its outcomes sent by hand."""

from typing import Any

import pytest
from pydantic import ValidationError
from support.router_builders import calibrator, settled, worth

from routers.fragments.fallback import RESTART_PATIENCE
from routers.plan import Answer, Draft, Generate, Reason, Tier, Unavailable, Verdict
from routers.router import Request
from routers.strategies.cascade import Cascade
from routers.watch import ConfidenceWatch, ObservingWatch, Release

CASCADE = Cascade(accept=0.6, commit=0.8, give_up=0.2, calibrator=calibrator())
SLM_ONLY = frozenset[Tier](["slm"])
LLM_ONLY = frozenset[Tier](["llm"])
ACCEPTED = Draft("slm", "yes", finish="stop", reason=Reason.CONFIDENT, confidence=0.7)
DOUBTED = Draft(
    "slm", "hm", finish="stop", verdict=Verdict.GIVE_UP, reason=Reason.LOW_CONFIDENCE, confidence=0.3
)
STOPPED = Draft("slm", "h", verdict=Verdict.GIVE_UP, reason=Reason.GAVE_UP, confidence=0.1)
LARGE = Draft("llm", "better", finish="stop")
SMALL = Draft("slm", "again", finish="stop", confidence=0.4)
BEGUN = Draft("slm", "The be", confidence=0.9, kept=3)
REST = Draft("slm", "ginning", finish="stop", confidence=0.5)


def lost(why: str = "down", tier: Tier = "slm", partial: Draft | None = None) -> Unavailable:
    return Unavailable(why, tier, partial=partial)


def run(*outcomes: Any, **request: Any) -> tuple[list[Generate], Answer | Unavailable]:
    return settled(CASCADE.plan(Request(**request)), *outcomes)


def asked(asks: list[Generate]) -> list[tuple[str, Reason]]:
    return [(ask.tier, ask.because) for ask in asks]


def kind_of_watch(ask: Generate) -> type | None:
    return None if ask.watch is None else type(ask.watch())


# --- a draft


@pytest.mark.parametrize("reason", [Reason.CONFIDENT, Reason.COMMITTED])
def test_an_accepted_draft_is_the_answer(reason: Reason) -> None:
    draft = Draft("slm", reason=reason, confidence=0.9)
    asks, answer = run(draft)
    assert asked(asks) == [("slm", Reason.POLICY)]
    assert answer == Answer((draft,), reason, 0.9)


def test_an_accepted_draft_without_a_reason_counts_as_confident() -> None:
    assert run(Draft("slm"))[1] == Answer((Draft("slm"),), Reason.CONFIDENT)


@pytest.mark.parametrize("stream", [True, False])
def test_only_a_stream_commits_early(stream: bool) -> None:
    ask = run(ACCEPTED, stream=stream)[0][0]
    assert ask.patience == 0.0
    assert ask.watch is not None
    watch = ask.watch()
    assert isinstance(watch, ConfidenceWatch)
    assert watch.calibrator is CASCADE.calibrator
    assert (watch.accept, watch.commit, watch.give_up) == (0.6, 0.8 if stream else None, 0.2)


def test_each_attempt_has_a_watch_of_its_own() -> None:
    make = run(ACCEPTED)[0][0].watch
    assert make is not None
    assert make() is not make()


# --- escalation


@pytest.mark.parametrize("draft", [DOUBTED, STOPPED], ids=["finished", "stopped"])
def test_a_draft_in_doubt_goes_to_the_llm_with_its_reason(draft: Draft) -> None:
    asks, answer = run(draft, LARGE)
    assert asked(asks) == [("slm", Reason.POLICY), ("llm", draft.reason)]
    assert kind_of_watch(asks[1]) is None
    assert draft.reason is not None
    assert answer == Answer((LARGE,), draft.reason, draft.confidence)


def test_an_escalation_without_a_reason_counts_as_low_confidence() -> None:
    draft = Draft("slm", verdict=Verdict.GIVE_UP)
    assert run(draft, LARGE)[1] == Answer((LARGE,), Reason.LOW_CONFIDENCE)


@pytest.mark.parametrize("why", ["down", "rejected", "not_configured"])
def test_a_doubted_draft_stands_where_the_llm_cannot_be_had(why: str) -> None:
    assert run(DOUBTED, lost(why, "llm"))[1] == Answer((DOUBTED,), Reason.NO_LLM, 0.3)


def test_a_stopped_draft_is_written_again_where_the_llm_cannot_be_had() -> None:
    asks, answer = run(STOPPED, lost("down", "llm"), SMALL)
    assert asked(asks)[2] == ("slm", Reason.NO_LLM)
    assert kind_of_watch(asks[2]) is ObservingWatch
    assert asks[2].patience == RESTART_PATIENCE
    assert answer == Answer((SMALL,), Reason.NO_LLM, 0.4)


@pytest.mark.parametrize("draft", [DOUBTED, STOPPED], ids=["finished", "stopped"])
def test_an_llm_lost_midway_fails_the_exchange(draft: Draft) -> None:
    midway = lost("lost", "llm", Draft("llm"))
    assert run(draft, midway)[1] is midway


# --- the small model cannot be had


@pytest.mark.parametrize("why", ["down", "busy", "timeout", "rejected", "lost"])
def test_the_llm_answers_where_the_small_model_cannot_be_had(why: str) -> None:
    asks, answer = run(lost(why), LARGE)
    assert asked(asks)[1] == ("llm", Reason.NO_SLM)
    assert answer == Answer((LARGE,), Reason.NO_SLM)


def test_a_prompt_too_long_for_the_small_model_goes_to_the_llm() -> None:
    asks, answer = run(lost("context"), LARGE)
    assert asked(asks)[1] == ("llm", Reason.CONTEXT_TOO_LONG)
    assert answer == Answer((LARGE,), Reason.CONTEXT_TOO_LONG)


@pytest.mark.parametrize("why", ["context", "rejected"])
def test_what_another_try_cannot_mend_is_the_error_where_the_llm_fails_too(why: str) -> None:
    first, second = lost(why), lost("down", "llm")
    error = run(first, second)[1]
    assert error is first
    assert first.__cause__ is second


def test_with_neither_to_be_had_the_small_model_is_waited_for() -> None:
    asks, answer = run(lost("down"), lost("down", "llm"), SMALL)
    assert asked(asks) == [("slm", Reason.POLICY), ("llm", Reason.NO_SLM), ("slm", Reason.NO_LLM)]
    assert asks[2].patience == RESTART_PATIENCE
    assert answer == Answer((SMALL,), Reason.NO_LLM, 0.4)


def test_an_llm_lost_midway_after_the_small_model_failed_fails_the_exchange() -> None:
    midway = lost("lost", "llm", Draft("llm"))
    assert run(lost("down"), midway)[1] is midway


def test_the_exchange_fails_where_waiting_does_not_help_either() -> None:
    third = lost("down")
    assert run(lost("down"), lost("down", "llm"), third)[1] is third


# --- a stream lost after its beginning was committed


def test_a_committed_beginning_is_continued_by_its_writer() -> None:
    asks, answer = run(lost("lost", partial=BEGUN), REST, stream=True)
    assert asked(asks)[1] == ("slm", Reason.COMMITTED)
    assert (asks[1].prefix, asks[1].patience) == ("The be", RESTART_PATIENCE)
    assert kind_of_watch(asks[1]) is ObservingWatch
    assert answer == Answer((BEGUN, REST), Reason.COMMITTED, 0.9)


def test_a_beginning_lost_again_fails_the_exchange() -> None:
    again = lost("lost", partial=REST)
    assert run(lost("lost", partial=BEGUN), again)[1] is again


def test_or_where_it_cannot_be_had_again_the_large_model_goes_on() -> None:
    rest = Draft("llm", " rest", finish="stop")
    asks, answer = run(lost("lost", partial=BEGUN), lost("down"), rest, stream=True)
    assert asks[-1] == Generate("llm", prefix=BEGUN.text, because=Reason.NO_SLM)
    assert answer == Answer((BEGUN, rest), Reason.NO_SLM, BEGUN.confidence)


@pytest.mark.parametrize("why", ["incapable", "down"])
def test_or_nobody_and_its_loss_is_the_end(why: str) -> None:
    first = lost("lost", partial=BEGUN)
    assert run(first, lost("down"), lost(why, "llm"), stream=True)[1] is first


def test_a_large_model_that_breaks_off_while_it_goes_on_is_the_end() -> None:
    again = lost("lost", "llm", partial=Draft("llm", "x"))
    assert run(lost("lost", partial=BEGUN), lost("down"), again, stream=True)[1] is again


def test_a_ceiling_is_nobodys_loss() -> None:
    spent = lost("ceiling")
    assert run(lost("lost", partial=BEGUN), spent, stream=True)[1] is spent


# --- a stream that flows sentence by sentence

SPLICE = Cascade(accept=0.6, commit=0.8, give_up=0.2, release="splice", calibrator=calibrator())
SPOKEN = STOPPED._replace(text="Yes. Perh", tokens=worth(0.9, 3), kept=2, committed_text="Yes.")


def spliced(*outcomes: Any) -> tuple[list[Any], Answer | Unavailable]:
    return settled(SPLICE.plan(Request(stream=True)), *outcomes)


@pytest.mark.parametrize(
    "draft",
    [SPOKEN, SPOKEN._replace(finish="stop", reason=Reason.LOW_CONFIDENCE, confidence=0.5)],
    ids=["given up", "doubted at its end"],
)
def test_a_draft_whose_beginning_flowed_is_continued_by_the_llm(draft: Draft) -> None:
    asks, answer = spliced(draft, LARGE)
    assert asked(asks) == [("slm", Reason.POLICY), ("llm", draft.reason)]
    assert asks[1].prefix == "Yes."
    assert isinstance(answer, Answer)
    kept, rest = answer.parts
    assert (kept.text, list(kept.tokens), kept.usage.completion_tokens) == ("Yes.", worth(0.9, 2), 2)
    assert rest is LARGE
    assert (answer.reason, answer.confidence, answer.route) == (draft.reason, draft.confidence, "slm+llm")


def test_a_doubted_draft_whose_beginning_flowed_stands_where_the_llm_cannot_be_had() -> None:
    draft = SPOKEN._replace(finish="stop", reason=Reason.LOW_CONFIDENCE)
    assert spliced(draft, lost("down", "llm"))[1] == Answer((draft,), Reason.NO_LLM, 0.1)


def test_a_stopped_draft_whose_beginning_flowed_is_continued_where_the_llm_cannot_be_had() -> None:
    asks, answer = spliced(SPOKEN, lost("down", "llm"), REST)
    assert asked(asks)[2] == ("slm", Reason.NO_LLM)
    assert (asks[2].prefix, asks[2].patience) == ("Yes.", RESTART_PATIENCE)
    assert isinstance(answer, Answer)
    assert ([part.text for part in answer.parts], answer.route) == (["Yes.", "ginning"], "slm")


def test_a_draft_given_up_before_its_first_sentence_is_replaced() -> None:
    asks, answer = spliced(STOPPED, LARGE)
    assert asks[1].prefix == ""
    assert answer == Answer((LARGE,), Reason.GAVE_UP, 0.1)


@pytest.mark.parametrize("release", ["hold", "commit", "splice"])
@pytest.mark.parametrize(
    ("request_", "early"),
    [({"stream": True}, True), ({}, False), ({"stream": True, "whole": True}, False)],
    ids=["stream", "plain", "checked whole"],
)
def test_only_a_stream_that_may_flow_in_parts_commits_early(
    release: Release, request_: dict[str, Any], early: bool
) -> None:
    router = SPLICE.model_copy(update={"release": release})
    make = next(router.plan(Request(**request_))).watch
    watch = make()
    assert watch.release == release
    assert watch.commit == (0.8 if early and release != "hold" else None)


# --- no llm


def test_without_an_llm_the_small_model_is_only_observed() -> None:
    asks, answer = run(SMALL, tiers=SLM_ONLY)
    assert asked(asks) == [("slm", Reason.NO_LLM)]
    assert asks[0].patience == RESTART_PATIENCE
    assert asks[0].watch is not None
    assert asks[0].watch() == ObservingWatch(CASCADE.calibrator, ends_loops=True)
    assert answer == Answer((SMALL,), Reason.NO_LLM, 0.4)


def test_without_an_llm_a_beginning_is_continued() -> None:
    asks, answer = run(lost("lost", partial=BEGUN), REST, tiers=SLM_ONLY)
    assert asked(asks)[1] == ("slm", Reason.NO_LLM)
    assert asks[1].prefix == "The be"
    assert answer == Answer((BEGUN, REST), Reason.NO_LLM, 0.9)


def test_without_an_llm_the_small_models_failure_is_the_exchanges() -> None:
    first = lost("down")
    assert run(first, tiers=SLM_ONLY)[1] is first


# --- not judged


def test_what_cannot_be_judged_goes_to_the_llm() -> None:
    asks, answer = run(LARGE, judgeable=False)
    assert asked(asks) == [("llm", Reason.NOT_JUDGED)]
    assert kind_of_watch(asks[0]) is None
    assert answer == Answer((LARGE,), Reason.NOT_JUDGED)


def test_what_cannot_be_judged_is_the_small_models_where_the_llm_cannot_be_had() -> None:
    asks, answer = run(lost("down", "llm"), SMALL, judgeable=False)
    assert asked(asks)[1] == ("slm", Reason.NO_LLM)
    assert (kind_of_watch(asks[1]), asks[1].patience) == (None, RESTART_PATIENCE)
    assert answer == Answer((SMALL,), Reason.NO_LLM, 0.4)


@pytest.mark.parametrize("gone", [lost("rejected", "llm"), lost("lost", "llm", Draft("llm"))])
def test_what_cannot_be_judged_fails_where_the_request_is_at_fault_or_its_answer_begun(
    gone: Unavailable,
) -> None:
    assert run(gone, judgeable=False)[1] is gone


# --- not everyone can serve it


def test_what_the_small_model_cannot_serve_is_the_large_models_alone() -> None:
    asks, answer = run(LARGE, able=LLM_ONLY)
    assert asked(asks) == [("llm", Reason.NOT_CAPABLE)]
    assert answer == Answer((LARGE,), Reason.NOT_CAPABLE)
    gone = lost("down", "llm")
    assert run(gone, able=LLM_ONLY)[1] is gone


@pytest.mark.parametrize(
    ("judgeable", "watch"), [(True, ObservingWatch), (False, None)], ids=["judged", "not judged"]
)
def test_what_the_large_model_cannot_serve_is_the_small_models_alone(
    judgeable: bool, watch: type | None
) -> None:
    asks, answer = run(SMALL, able=SLM_ONLY, judgeable=judgeable)
    assert asked(asks) == [("slm", Reason.NO_LLM)]
    assert kind_of_watch(asks[0]) is watch
    assert answer == Answer((SMALL,), Reason.NO_LLM, 0.4)
    first = lost("down")
    assert run(first, able=SLM_ONLY, judgeable=judgeable)[1] is first


# --- its fields


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"accept": 0.5, "commit": 0.4}, "commit must be at least accept"),
        ({"accept": 0.5, "give_up": 0.6}, "give_up must be at most accept"),
        ({"accept": 0.5, "release": "splice"}, "release: splice needs commit, the running confidence"),
        ({"accept": 0.5, "release": "never"}, "Input should be 'hold', 'commit' or 'splice'"),
        ({"accept": 1.1}, "less than or equal to 1"),
        ({"accept": -0.1}, "greater than or equal to 0"),
        ({"accept": float("nan")}, "Input should be"),
        ({}, "Field required"),
    ],
)
def test_thresholds_out_of_range_or_order_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Cascade.model_validate({**fields, "calibrator": calibrator()})


def test_equal_thresholds_are_in_order() -> None:
    Cascade(accept=0.5, commit=0.5, give_up=0.5, calibrator=calibrator())


def test_the_watch_it_hands_out_decides_as_the_policy_says() -> None:
    make = run(ACCEPTED)[0][0].watch
    assert make is not None
    for confidence, verdict in ((0.65, Verdict.COMMIT), (0.55, Verdict.GIVE_UP)):
        watch = make()
        assert {watch.token(each) for each in worth(confidence)} == {Verdict.CONTINUE}
        assert watch.end("stop") is verdict
