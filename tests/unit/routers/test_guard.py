from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support.router_builders import calibrator, settled, worth

from routers.judges.draft_judge import Verify
from routers.judges.guard import ATTACK_QUESTION, HARM_QUESTION, Guard, guard_plan
from routers.plan import (
    Answer,
    Ask,
    Both,
    Draft,
    Generate,
    Judge,
    Judged,
    Outcome,
    Plan,
    Reason,
    Say,
    Score,
    Scored,
    Tier,
    Token,
    ToolCall,
    Unavailable,
    Verdict,
)
from routers.router import Request, Router
from routers.strategies.cascade import Cascade
from routers.strategies.direct import Direct
from routers.strategies.hedge import Hedge
from routers.strategies.speculative import Speculative

JUDGING: dict[str, Any] = {"accept": 0.6, "commit": 0.7, "give_up": 0.2, "calibrator": calibrator()}
CASCADE = Cascade(**JUDGING)
ROUTERS: dict[str, Router] = {
    "direct": Direct(tier="slm"),
    "cascade": CASCADE,
    "cascade, spliced": Cascade(**JUDGING, release="splice"),
    "cascade, judged": Cascade(**JUDGING, release="hold", judge=Verify(tier="llm")),
    "hedge": Hedge(**JUDGING),
    "speculative": Speculative(otherwise=CASCADE),
}
SAFE, HARM = (Judged({"attack": p, "normal": 1 - p, "yes": p, "no": 1 - p}, 1.0) for p in (0.1, 0.9))
STREAM = Request(stream=True)
SLM_ONLY = Request(tiers=frozenset(("slm",)))


def plan(router: Router = CASCADE, request: Request = STREAM, **guard: Any) -> Plan:
    return guard_plan(lambda request: router.adapt_to(request).plan(request), Guard(**guard), request)


def written(ask: Generate, tokens: Sequence[Token], finish: str | None = "stop", **more: Any) -> Draft:
    """What an engine makes of these tokens under the ask's watch: it may commit none of them."""
    assert ask.watch is not None, "nothing would hold it"
    watch = ask.watch()
    for count, token in enumerate(tokens, 1):
        verdict = watch.token(token)
        assert verdict is not Verdict.COMMIT
        if verdict is Verdict.GIVE_UP:
            return Draft(ask.tier, "...", tokens[:count], None, verdict=verdict, reason=watch.reason)
    verdict = watch.end(finish)
    assert verdict is not Verdict.COMMIT
    text = "".join(token.text for token in tokens)
    return Draft(
        ask.tier,
        text,
        tokens,
        finish,
        verdict=verdict,
        reason=watch.reason,
        confidence=watch.confidence,
        **more,
    )


class Driven:
    """A plan's asks, answered one by one."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.ask: Any = next(plan)
        self.answer: Answer | None = None

    def given(self, outcome: Outcome | Unavailable) -> "Driven":
        try:
            lost = isinstance(outcome, Unavailable)
            self.ask = self.plan.throw(outcome) if lost else self.plan.send(outcome)  # type: ignore[arg-type]
        except StopIteration as settled:
            self.ask, self.answer = None, settled.value
        return self

    def writes(self, confidence: float = 0.9, **more: Any) -> "Driven":
        assert isinstance(self.ask, Generate)
        return self.given(written(self.ask, worth(confidence), **more))


def test_without_parts_the_plan_is_the_router_s_own() -> None:
    asks, answer = settled(plan(leak=12), Draft("slm", "hi", reason=Reason.CONFIDENT))
    assert [type(ask) for ask in asks] == [Generate]
    assert isinstance(answer, Answer)
    assert answer.reason is Reason.CONFIDENT


def test_a_request_is_judged_before_anything_is_asked() -> None:
    driven = Driven(plan(input=True))
    assert driven.ask == Judge("slm", ATTACK_QUESTION.question, ("attack", "normal"), "", Reason.GUARDED)
    assert isinstance(driven.given(SAFE).ask, Generate)


def test_the_judge_and_its_question_may_be_others() -> None:
    ask = {"question": "{request}", "labels": ["unsafe", "safe"]}
    driven = Driven(plan(input=0.3, tier="llm", model="llama-guard", ask_input=ask))
    assert driven.ask == Judge(
        "llm", "{request}", ("unsafe", "safe"), "", Reason.GUARDED, model="llama-guard"
    )
    with pytest.raises(Unavailable, match="flagged"):
        driven.given(Judged({"unsafe": 0.3, "safe": 0.7}, 1.0))


def test_a_flagged_request_is_blocked() -> None:
    with pytest.raises(Unavailable, match="guard: the request was flagged") as lost:
        Driven(plan(input=0.5)).given(HARM)
    assert lost.value.why == "guarded"


def test_a_flagged_request_goes_to_the_large_model_and_to_nobody_else() -> None:
    driven = Driven(plan(input=0.5, action="escalate")).given(HARM)
    assert driven.ask == Generate("llm", because=Reason.GUARDED)
    with pytest.raises(Unavailable, match="down"):
        driven.given(Unavailable("down", "llm"))
    answered = Driven(plan(input=0.5, action="escalate")).given(HARM).given(Draft("llm", "no"))
    assert answered.answer == Answer((Draft("llm", "no"),), Reason.GUARDED)


def test_without_a_large_model_a_flagged_request_is_not_escalated() -> None:
    with pytest.raises(Unavailable, match="flagged"):
        Driven(plan(request=SLM_ONLY, input=0.5, action="escalate")).given(HARM)


@pytest.mark.parametrize("name", ROUTERS)
def test_what_stays_local_is_asked_of_the_small_model_alone(name: str) -> None:
    verifies = frozenset(("scoring",))
    request = Request(stream=True, verifies=verifies, greedy=True, stays=3)  # type: ignore[arg-type]
    driven = Driven(plan(ROUTERS[name], request, input=0.5, action="stay_local")).given(HARM)
    assert isinstance(driven.ask, Generate)
    assert (driven.ask.tier, driven.ask.because) == ("slm", Reason.GUARDED)
    draft = Draft("slm", "hi", finish="stop")
    driven.given(draft)
    assert driven.answer == Answer((draft,), Reason.GUARDED, local_only=True)


class Stubborn(Router):
    """Asks the large model whatever it is told."""

    kind: str = "stubborn"

    def plan(self, request: Request) -> Plan:
        raced = yield Both(Generate("slm"), Generate("llm"))
        try:
            yield Judge("llm", "?", ("yes", "no"))
        except Unavailable as lost:
            raise lost from None
        return Answer((), Reason.POLICY, raced)  # type: ignore[arg-type]


def test_nothing_of_what_stays_local_is_put_to_the_large_model_by_any_router() -> None:
    driven = Driven(plan(Stubborn(), input=0.5, action="stay_local")).given(HARM)
    assert isinstance(driven.ask, Generate)
    assert driven.ask.tier == "slm"
    with pytest.raises(Unavailable) as lost:
        driven.given(Draft("slm"))
    assert (lost.value.why, lost.value.tier) == ("private", "llm")


@pytest.mark.parametrize("part", ["input", "output"])
def test_who_can_not_judge_blocks_unless_told_to_pass(part: str) -> None:
    gone = Unavailable("down", "slm")
    for unavailable in ("block", "pass"):
        driven = Driven(plan(Direct(tier="llm"), unavailable=unavailable, **{part: True}))
        if part == "output":
            driven.writes()
        if unavailable == "block":
            with pytest.raises(Unavailable, match="slm: down"):
                driven.given(gone)
        elif part == "output":
            assert driven.given(gone).answer is not None
        else:
            assert isinstance(driven.given(gone).ask, Generate)


def test_an_answer_that_is_not_one_text_is_blocked_unless_told_to_pass() -> None:
    request = Request(judgeable=False)
    with pytest.raises(Unavailable, match="not one text"):
        next(plan(request=request, output=0.5))
    assert next(plan(request=request, output=0.5, unavailable="pass")) == Generate(
        "llm", because=Reason.NOT_JUDGED
    )


def test_an_answer_is_held_and_judged_with_its_calls() -> None:
    driven = Driven(plan(output=True)).writes(tool_calls=[ToolCall("send", '{"to": "all"}')])
    assert driven.ask == Judge(
        "slm", HARM_QUESTION.question, ("yes", "no"), 't0t1t2\nsend({"to": "all"})', Reason.GUARDED
    )
    answer = driven.given(SAFE).answer
    assert answer is not None
    assert (answer.route, answer.reason) == ("slm", Reason.CONFIDENT)


def test_a_doubtful_draft_goes_on_to_the_large_model_whose_log_probabilities_nobody_needs() -> None:
    driven = Driven(plan(output=0.5)).writes(0.4)
    assert isinstance(driven.ask, Generate)
    assert driven.ask.tier == "llm"
    assert driven.ask.watch is not None
    assert not driven.ask.logprobs
    driven.writes().given(SAFE)
    assert driven.answer is not None
    assert driven.answer.reason is Reason.LOW_CONFIDENCE


@pytest.mark.parametrize("action", ["block", "escalate", "stay_local"])
@pytest.mark.parametrize("writer", ["slm", "llm"])
def test_a_flagged_answer_is_another_s_or_an_error(action: str, writer: Tier) -> None:
    driven = Driven(plan(Direct(tier=writer), output=0.5, action=action)).writes()
    other = {("escalate", "slm"): "llm", ("stay_local", "llm"): "slm"}.get((action, writer))
    if other is None:
        with pytest.raises(Unavailable, match=r"the answer was flagged$"):
            driven.given(HARM)
        return
    driven.given(HARM).writes()
    with pytest.raises(Unavailable, match="and the one instead of it"):
        Driven(plan(Direct(tier=writer), output=0.5, action=action)).writes().given(HARM).writes().given(HARM)
    answer = driven.given(SAFE).answer
    assert answer is not None
    assert (answer.route, answer.reason, answer.local_only) == (other, Reason.GUARDED, action == "stay_local")


def test_a_race_under_a_judge_is_run_leg_by_leg() -> None:
    driven = Driven(plan(ROUTERS["hedge"], output=0.5))
    assert isinstance(driven.ask, Generate)
    assert driven.ask.tier == "slm"
    assert driven.writes(0.9).given(SAFE).answer is not None
    driven = Driven(plan(ROUTERS["hedge"], output=0.5)).writes(0.4)
    assert isinstance(driven.ask, Generate)
    assert (driven.ask.tier, driven.ask.because) == ("llm", Reason.LOW_CONFIDENCE)
    answer = driven.writes().given(SAFE).answer
    assert answer is not None
    assert (answer.route, answer.reason) == ("llm", Reason.LOW_CONFIDENCE)


OUTCOMES = st.sampled_from(["confident", "doubtful", "lost", "stopped"])


@settings(max_examples=50)
@given(
    name=st.sampled_from(list(ROUTERS)),
    action=st.sampled_from(["block", "escalate", "stay_local"]),
    data=st.data(),
    able=st.frozensets(st.sampled_from(["slm", "llm"])),
)
def test_whatever_happens_nothing_leaves_unjudged(
    name: str, action: str, data: Any, able: frozenset[Tier]
) -> None:
    """The last word before an answer is a judge's, who says that it does no harm."""
    request = Request(stream=True, able=able, verifies=frozenset(("scoring", "prediction")), greedy=True)
    last: Ask | None = None
    harmless = False
    driven = Driven(plan(ROUTERS[name], request, input=0.5, output=0.5, action=action))
    try:
        while driven.answer is None:
            last = driven.ask
            assert isinstance(last, Generate | Judge)
            if isinstance(last, Judge):
                found = data.draw(st.sampled_from([SAFE, HARM]))
                harmless = found is SAFE
                driven.given(found)
                continue
            how = data.draw(OUTCOMES)
            if how == "lost":
                driven.given(Unavailable(data.draw(st.sampled_from(["down", "context", "leak"])), last.tier))
            else:
                driven.writes(0.1 if how == "stopped" else 0.4 if how == "doubtful" else 0.9)
    except Unavailable:
        return
    assert isinstance(last, Judge)
    assert last.because is Reason.GUARDED
    assert harmless


def test_what_is_to_be_judged_is_neither_scored_nor_said_block_by_block() -> None:
    driven = Driven(
        plan(ROUTERS["speculative"], Request(verifies=frozenset(("scoring",)), greedy=True), output=0.5)
    )
    assert isinstance(driven.ask, Generate)
    assert driven.writes().given(SAFE).answer is not None


class Saying(Router):
    kind: str = "saying"

    def plan(self, request: Request) -> Plan:
        scored = yield Score("llm", "x")
        assert isinstance(scored, Scored)
        yield Say("llm", [1])
        raise AssertionError


def test_a_router_of_one_s_own_says_nothing_of_what_is_to_be_judged() -> None:
    driven = Driven(plan(Saying(), output=0.5))
    with pytest.raises(Unavailable, match="held to its end"):
        driven.given(Scored([], None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"input": True, "output": False}, {"input": 0.5, "output": None}),
        ({"leak": 8}, {"leak": {"words": 8}}),
        ({"leak": True}, {"leak": {"words": 12}}),
        ({"leak": False}, {"leak": None}),
        ({"leak": {"words": 20}}, {"leak": {"words": 20}}),
    ],
)
def test_short_forms(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    found = Guard(**fields)
    assert {name: found.model_dump()[name] for name in expected} == expected
    assert Guard.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input": 1.5}, "less than or equal to 1"),
        ({"leak": 5}, "greater than or equal to 6"),
        ({"action": "refuse"}, "'block', 'escalate' or 'stay_local'"),
        ({"action": "stay_local", "tier": "llm"}, "stay_local needs tier: slm"),
        ({"ask_input": {"question": "?", "labels": ["yes"]}}, "at least 2 items"),
        ({"outptu": True}, "Extra inputs are not permitted"),
    ],
)
def test_a_guard_that_can_not_be_meant(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Guard(**fields)
