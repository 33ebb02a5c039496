"""A judgement asks for numbers, and the cascade around it: gate before, judge after."""

from typing import Any

import pytest
from pydantic import ValidationError
from support.router_builders import calibrator, settled, worth

from routers.judges.draft_judge import Agree, Rate, Verify
from routers.judges.judgements import LABEL_ORDERS, build_question
from routers.judges.rubric import Rubric
from routers.plan import Answer, Draft, Generate, Judge, Judged, Reason, Tier, Unavailable, Verdict
from routers.router import Request
from routers.strategies.cascade import Cascade
from routers.strategies.difficulty import Gate
from routers.watch import ConfidenceWatch, ObservingWatch

HELD = Draft("slm", "yes", finish="stop", verdict=Verdict.CONTINUE, reason=Reason.CONFIDENT, confidence=0.7)
SURE = HELD._replace(verdict=Verdict.COMMIT, confidence=0.9)
DOUBTED = HELD._replace(verdict=Verdict.GIVE_UP, reason=Reason.LOW_CONFIDENCE, confidence=0.3)
LARGE = Draft("llm", "better", finish="stop")
HARD, EASY = {"turns": 9.0}, {"turns": 1.0}


def cascade(**changes: Any) -> Cascade:
    fields = {"accept": 0.6, "release": "hold", "calibrator": calibrator()}
    return Cascade(**{**fields, "judge": Verify(accept=0.5, below=0.8), **changes})


def yes(p: float) -> Judged:
    return Judged({"yes": p, "no": 1.0 - p}, 0.9)


def lost(why: str = "down", tier: Tier = "slm", partial: Draft | None = None) -> Unavailable:
    return Unavailable(why, tier, partial=partial)


def run(*outcomes: Any, **request: Any) -> tuple[list[Any], Answer | Unavailable]:
    return settled(cascade().plan(Request(**request)), *outcomes)


def twice(p: float) -> tuple[Judged, Judged]:
    """The same in both orders."""
    return yes(p), yes(p)


# --- the question


@pytest.mark.parametrize("tier", ["slm", "llm"])
def test_a_tier_is_asked_in_both_orders_whether_the_draft_is_correct(tier: Tier) -> None:
    asks, _ = settled(cascade(judge=Verify(tier=tier)).plan(Request()), HELD, *twice(1.0))
    assert asks[1:] == [
        Judge(tier, build_question(*labels), labels, "yes", Reason.JUDGED) for labels in LABEL_ORDERS
    ]


def test_the_question_has_a_place_for_the_request_and_one_for_the_answer() -> None:
    asked = build_question("yes", "no")
    assert (asked.count("{request}"), asked.count("{answer}")) == (1, 1)


def test_the_orders_differ_only_at_the_end_so_that_the_rest_is_cached() -> None:
    one, other = (build_question(*labels) for labels in LABEL_ORDERS)
    assert one.removesuffix("yes or no.") == other.removesuffix("no or yes.")


@pytest.mark.parametrize(("first", "second", "served"), [(0.9, 0.2, True), (0.2, 0.7, False)])
def test_both_orders_count_alike(first: float, second: float, served: bool) -> None:
    outcomes = [HELD, yes(first), yes(second), *([] if served else [LARGE])]
    assert run(*outcomes)[1] == Answer((HELD if served else LARGE,), Reason.JUDGED, 0.7)


def test_where_the_second_order_cannot_be_asked_nobody_has_judged() -> None:
    assert run(HELD, yes(0.1), lost())[1] == Answer((HELD,), Reason.CONFIDENT, 0.7)


# --- the other judges

WITH_CONTEXT = Rubric(name="grounded", text="Is {answer} in {context}?")
RUBRIC = Rubric(name="mine", text="Rate {answer} as an answer to {request}.", scale=3)


@pytest.mark.parametrize(("accept", "served"), [(2.1, True), (2.3, False)])
def test_a_rating_is_the_mean_over_the_scale(accept: float, served: bool) -> None:
    rated = Judged({"1": 0.2, "2": 0.4, "3": 0.4}, 0.8)
    router = cascade(judge=Rate(rubric=RUBRIC, accept=accept))
    asks, answer = settled(router.plan(Request()), HELD, rated, *([] if served else [LARGE]))
    asked = "Rate {answer} as an answer to {request}.\n\nReply with one number from 1 to 3."
    assert asks[1] == Judge("slm", asked, ("1", "2", "3"), "yes")
    assert answer == Answer((HELD if served else LARGE,), Reason.JUDGED, 0.7)


@pytest.mark.parametrize("compare", ["text", "number", "entailment"])
def test_agreement_is_one_ask_however_many_samples(compare: Any) -> None:
    router = cascade(judge=Agree(samples=3, compare=compare, tier="llm"))
    asks, answer = settled(router.plan(Request()), HELD, yes(0.75))
    assert (asks[1].tier, asks[1].samples, asks[1].compare) == ("llm", 3, compare)
    assert ("{sample}" in asks[1].question) is (compare == "entailment")
    assert answer == Answer((HELD,), Reason.JUDGED, 0.7)


@pytest.mark.parametrize(
    ("judge", "calls"),
    [(None, 8), (Verify(), 9), (Rate(rubric=RUBRIC, accept=2), 8), (Agree(samples=4), 8)],
    ids=["none", "verify", "rate", "agree"],
)
def test_a_judge_that_asks_more_may_ask_more(judge: Any, calls: int) -> None:
    assert cascade(judge=judge).max_calls == calls
    assert cascade(judge=Agree(samples=16, compare="entailment")).max_calls == 24


# --- what it decides


@pytest.mark.parametrize("p", [0.5, 1.0])
def test_a_draft_judged_right_is_the_answer(p: float) -> None:
    assert run(HELD, *twice(p))[1] == Answer((HELD,), Reason.JUDGED, 0.7)


@pytest.mark.parametrize("p", [0.0, 0.49])
def test_a_draft_judged_wrong_goes_to_the_large_model(p: float) -> None:
    asks, answer = run(HELD, *twice(p), LARGE)
    assert asks[3] == Generate("llm", because=Reason.JUDGED)
    assert answer == Answer((LARGE,), Reason.JUDGED, 0.7)


def test_a_draft_judged_wrong_stands_where_the_large_model_cannot_be_had() -> None:
    assert run(HELD, *twice(0.1), lost("down", "llm"))[1] == Answer((HELD,), Reason.NO_LLM, 0.7)


def test_a_large_model_lost_midway_after_the_judgement_fails_the_exchange() -> None:
    midway = lost("lost", "llm", Draft("llm"))
    assert run(HELD, *twice(0.1), midway)[1] is midway


@pytest.mark.parametrize("reason", [Reason.CONFIDENT, None])
def test_where_nobody_can_judge_the_confidence_has_decided(reason: Reason | None) -> None:
    draft = HELD._replace(reason=reason)
    assert run(draft, lost())[1] == Answer((draft,), Reason.CONFIDENT, 0.7)


def test_a_draft_that_was_committed_or_refused_is_not_judged() -> None:
    asks, answer = run(SURE)
    assert (len(asks), answer) == (1, Answer((SURE,), Reason.CONFIDENT, 0.9))
    asks, answer = run(DOUBTED, LARGE)
    assert asks[1] == Generate("llm", because=Reason.LOW_CONFIDENCE)
    assert answer == Answer((LARGE,), Reason.LOW_CONFIDENCE, 0.3)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("confidence", "verdict"),
    [(0.5, Verdict.GIVE_UP), (0.7, Verdict.CONTINUE), (0.85, Verdict.COMMIT)],
    ids=["refused", "to be judged", "sure"],
)
def test_an_accepted_draft_that_is_to_be_judged_stays_held_at_its_end(
    stream: bool, confidence: float, verdict: Verdict
) -> None:
    """Committed, it would be the client's before the judge has said no."""
    make = run(SURE, stream=stream)[0][0].watch
    watch = make()
    assert isinstance(watch, ConfidenceWatch)
    assert {watch.token(each) for each in worth(confidence, 12)} == {Verdict.CONTINUE}
    assert watch.end("stop") is verdict
    assert watch.reason is (Reason.LOW_CONFIDENCE if confidence < 0.6 else Reason.CONFIDENT)


def test_without_a_judge_no_draft_stays_held_at_its_end() -> None:
    make = settled(cascade(judge=None).plan(Request()), SURE)[0][0].watch
    assert make is not None
    watch = make()
    for each in worth(0.7):
        watch.token(each)
    assert watch.end("stop") is Verdict.COMMIT


# --- the gate before


def gated(*outcomes: Any, **changes: Any) -> tuple[list[Any], Answer | Unavailable]:
    router = cascade(gate=Gate(limits={"turns": 3.0}), **changes)
    return settled(router.plan(Request(features=HARD)), *outcomes)


def test_a_hard_prompt_is_not_drafted() -> None:
    asks, answer = gated(LARGE)
    assert asks == [Generate("llm", because=Reason.TOO_HARD)]
    assert answer == Answer((LARGE,), Reason.TOO_HARD)


def test_a_hard_prompts_fallback_is_observed_and_not_judged() -> None:
    asks, answer = gated(lost("down", "llm"), DOUBTED)
    assert isinstance(asks[1].watch(), ObservingWatch)
    assert answer == Answer((DOUBTED,), Reason.NO_LLM, 0.3)


def test_an_easy_prompt_is_drafted_and_judged() -> None:
    router = cascade(gate=Gate(limits={"turns": 3.0}))
    asks, answer = settled(router.plan(Request(features=EASY)), HELD, *twice(0.9))
    assert [ask.tier for ask in asks] == ["slm", "slm", "slm"]
    assert answer == Answer((HELD,), Reason.JUDGED, 0.7)


@pytest.mark.parametrize("alone", [{"tiers": frozenset(("slm",))}, {"able": frozenset(("slm",))}])
def test_no_gate_turns_away_what_nobody_else_can_answer(alone: dict[str, Any]) -> None:
    router = cascade(gate=Gate(limits={"turns": 3.0}))
    asks, _ = settled(router.plan(Request(features=HARD, **alone)), DOUBTED)
    assert [ask.tier for ask in asks] == ["slm"]


def test_the_prompt_is_measured_only_for_a_gate() -> None:
    assert cascade(gate=Gate(limits={"turns": 3.0})).reads_features
    assert not cascade().reads_features


# --- what it needs, and what contradicts itself


@pytest.mark.parametrize(
    ("changes", "slm", "llm"),
    [
        ({"judge": None}, {"logprobs": "calibrator"}, {}),
        ({"judge": Verify()}, {"logprobs": "calibrator"}, {}),
        ({"judge": Verify(tier="llm")}, {"logprobs": "calibrator"}, {"logprobs": "judge"}),
        ({"judge": Agree()}, {"logprobs": "calibrator", "choices": "judge"}, {}),
        ({"judge": Agree(samples=1, tier="llm")}, {"logprobs": "calibrator"}, {}),
        (
            {"judge": None, "release": "splice", "commit": 0.8},
            {"logprobs": "calibrator"},
            {"prefill": "release: splice"},
        ),
    ],
    ids=[
        "plain",
        "judged by the small",
        "judged by the large",
        "samples of the small",
        "one sample of the large",
        "splice",
    ],
)
def test_what_it_asks_of_its_upstreams(
    changes: dict[str, Any], slm: dict[str, str], llm: dict[str, str]
) -> None:
    assert cascade(**changes).needs == {"slm": slm, "llm": llm}


@pytest.mark.parametrize("release", [{}, {"release": "commit"}, {"release": "splice", "commit": 0.8}])
def test_a_judge_of_a_draft_that_flows_is_refused(release: dict[str, Any]) -> None:
    fields = {"accept": 0.6, "calibrator": calibrator(), "judge": {}, **release}
    with pytest.raises(ValidationError, match="judge needs release: hold, since a stream that flows"):
        Cascade.model_validate(fields)


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ({"kind": "vote"}, "expected one of the kinds verify, rate, agree"),
        ({"kind": "rate", "rubric": RUBRIC, "accept": 4}, "a score of the rubric, at most 3"),
        ({"kind": "rate", "rubric": RUBRIC}, "Field required"),
        (
            {"kind": "rate", "rubric": WITH_CONTEXT, "accept": 4},
            "grounded names {context}, and a draft is judged",
        ),
        ({"kind": "agree", "compare": "meaning"}, "'text', 'number' or 'entailment'"),
        ({"kind": "agree", "samples": 17}, "less than or equal to 16"),
        ({"tier": "mlm"}, "Input should be 'slm' or 'llm'"),
        ({"accept": 1.1}, "less than or equal to 1"),
        ({"below": -0.1}, "greater than or equal to 0"),
        ({"above": 0.1}, "Extra inputs"),
    ],
)
def test_a_judge_out_of_range_is_refused(judge: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        cascade(judge=judge)
