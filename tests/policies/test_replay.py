"""Replay reproduces what happened, finds what was changed, and never guesses."""

from typing import Any

import pytest
from builders import token, worth
from exchanges import (
    PRICE,
    PROMPT,
    answered,
    call,
    confidence,
    failed,
    hedged,
    judged,
    judgement,
    outrun,
    policy,
    record,
    stopped,
    tokens_line,
)
from hypothesis import given
from hypothesis import strategies as st

from policies.schema import Policy
from policies.tuning.records import CallLine, Record, RecordError, UsageLine
from policies.tuning.replay import differences, replay
from routers.cost import cost
from routers.difficulty import Difficulty, Gate
from routers.direct import Direct
from routers.judge import Verify
from routers.plan import Both, Generate, Judge, Reason, Router, Tier, Usage, Verdict

GOOD, POOR, HOPELESS, SURE = worth(0.7), worth(0.3), worth(0.1, 6), worth(0.9, 10)
SENTENCE = [*worth(0.9, 7), worth(0.9, 1)[0]._replace(ends_sentence=True), *worth(0.0001, 5)]
"""A sure sentence, and a collapse."""
THOUGHT = [token(-5.0, f"hm{place}")._replace(reasoning=True) for place in range(9)]
GATE = Gate(limits={"turns": 3.0})
JUDGING = policy(release="hold", judge=Verify())
SLM_ONLY: tuple[Tier, ...] = ("slm",)


def committed(count: int = 10, **changes: Any) -> CallLine:
    """A sure stream: committed at its sixth token."""
    draft = worth(0.9, count)
    decided = {"verdict": Verdict.COMMIT, "reason": Reason.COMMITTED, "confidence": confidence(draft[:6])}
    return call("slm", draft, kept=count, **{**decided, **changes})


def lost_midway() -> CallLine:
    return failed("slm", "lost", SURE[:8], kept=8, begun=True, cost_usd=0.0005, verdict=None, confidence=None)


def observed(draft: list[Any], **changes: Any) -> CallLine:
    decided = {"verdict": Verdict.COMMIT, "confidence": confidence(draft), "kept": len(draft)}
    return call("slm", draft, **{**decided, **changes})


def held(draft: list[Any]) -> CallLine:
    """An accepted draft that waits for its judgement."""
    return judged(draft).model_copy(update={"verdict": Verdict.CONTINUE, "kept": 0})


def direct(**fields: Any) -> Policy:
    return Policy(name="direct", description="For tests.", router=Direct(**fields))


CASES: dict[str, Record] = {
    "accepted plain": record([judged(GOOD)], answered("slm", Reason.CONFIDENT, confidence(GOOD))),
    "escalated": record(
        [judged(POOR), call("llm")], answered("llm", Reason.LOW_CONFIDENCE, confidence(POOR))
    ),
    "gave up early": record(
        [stopped(HOPELESS), call("llm")], answered("llm", Reason.GAVE_UP, stopped(HOPELESS).confidence)
    ),
    "no log-probabilities": record(
        [
            stopped([token(None)], reason=Reason.NO_LOGPROBS, confidence=None),
            call("llm"),
        ],
        answered("llm", Reason.NO_LOGPROBS),
    ),
    "empty": record(
        [call("slm", [], verdict=Verdict.GIVE_UP, reason=Reason.EMPTY), call("llm")],
        answered("llm", Reason.EMPTY),
    ),
    "doubted, the llm down": record(
        [judged(POOR), failed("llm")], answered("slm", Reason.NO_LLM, confidence(POOR))
    ),
    "given up, the llm down": record(
        [stopped(HOPELESS), failed("llm"), observed(POOR)],
        answered("slm", Reason.NO_LLM, confidence(POOR)),
    ),
    "committed early": record(
        [committed()], answered("slm", Reason.COMMITTED, confidence(SURE[:6])), stream=True
    ),
    "cancelled mid-draft": record([failed("slm", "cancelled", GOOD, cost_usd=0.001)], None, cancelled=True),
    "cancelled after a commit": record(
        [failed("slm", "cancelled", SURE[:8], kept=8)], None, stream=True, cancelled=True
    ),
    "cancelled while the llm wrote": record(
        [judged(POOR), failed("llm", "cancelled", cost_usd=0.002)], None, cancelled=True
    ),
    "cancelled before a call": record([], None, cancelled=True),
    "cancelled while the answer left": record(
        [judged(GOOD)], answered("slm", Reason.CONFIDENT, confidence(GOOD)), cancelled=True
    ),
    "lost mid-stream and resumed": record(
        [lost_midway(), observed(POOR, resumed=True)],
        answered("slm", Reason.COMMITTED, confidence(SURE[:6], None)),
        stream=True,
    ),
    "the first llm failed, the second answered": record(
        [judged(POOR), failed("llm", "error", retried=True), call("llm")],
        answered("llm", Reason.LOW_CONFIDENCE, confidence(POOR)),
    ),
    "a draft lost while held, drafted anew by another": record(
        [failed("slm", "lost", GOOD, cost_usd=0.001, retried=True), judged(GOOD)],
        answered("slm", Reason.CONFIDENT, confidence(GOOD)),
    ),
    "all of a tier failed": record(
        [judged(POOR), failed("llm", "error", retried=True), failed("llm", "timeout", cost_usd=0.002)],
        answered("slm", Reason.NO_LLM, confidence(POOR)),
    ),
    "cancelled while another tried": record(
        [failed("slm", "down", [], retried=True), failed("slm", "cancelled", GOOD, cost_usd=0.001)],
        None,
        cancelled=True,
    ),
    "not judged": record([call("llm")], answered("llm", Reason.NOT_JUDGED), judgeable=False),
    "not judged, the llm down": record(
        [failed("llm"), call("slm")], answered("slm", Reason.NO_LLM), judgeable=False
    ),
    "the prompt too long": record(
        [failed("slm", "context", []), call("llm")], answered("llm", Reason.CONTEXT_TOO_LONG)
    ),
    "lost before anything was committed": record(
        [failed("slm", "lost", GOOD, cost_usd=0.001), call("llm")], answered("llm", Reason.NO_SLM)
    ),
    "no llm": record(
        [observed(POOR)], answered("slm", Reason.NO_LLM, confidence(POOR)), tiers=SLM_ONLY
    ),
    "no llm, not judged": record(
        [call("slm")], answered("slm", Reason.NO_LLM), tiers=SLM_ONLY, judgeable=False
    ),
    "nothing could be had": record(
        [failed("slm", tokens=[]), failed("llm"), failed("slm", tokens=[])], None, status=503, error="x"
    ),
    "the llm lost mid-stream": record(
        [judged(POOR), failed("llm", "lost", begun=True, cost_usd=0.003)], None, stream=True, status=502, error="x"
    ),
    "judged right": record(
        [held(GOOD), judgement(0.9)], answered("slm", Reason.JUDGED, confidence(GOOD)), JUDGING
    ),
    "judged wrong": record(
        [held(GOOD), judgement(0.1), call("llm")], answered("llm", Reason.JUDGED, confidence(GOOD)), JUDGING
    ),
    "judged wrong, the llm down": record(
        [held(GOOD), judgement(0.1), failed("llm")], answered("slm", Reason.NO_LLM, confidence(GOOD)), JUDGING
    ),
    "nobody could judge": record(
        [held(GOOD), failed("slm", "garbage", ask="judge")],
        answered("slm", Reason.CONFIDENT, confidence(GOOD)),
        JUDGING,
    ),
    "cancelled while it was judged": record(
        [held(GOOD), failed("slm", "cancelled", ask="judge")], None, JUDGING, cancelled=True
    ),
    "a flaw": record(
        [
            call("slm", GOOD, verdict=Verdict.GIVE_UP, reason=Reason.INVALID_JSON, flaw=Reason.INVALID_JSON),
            call("llm"),
        ],
        answered("llm", Reason.INVALID_JSON),
    ),
    "too hard": record(
        [call("llm")], answered("llm", Reason.TOO_HARD), policy(gate=GATE), features={"turns": 9.0}
    ),
    "spliced": record(
        [stopped(SENTENCE, kept=8), call("llm", resumed=True)],
        answered("slm+llm", Reason.GAVE_UP, stopped(SENTENCE).confidence),
        policy(release="splice"),
        stream=True,
    ),
    "reasoned": record(
        [judged([*THOUGHT, *GOOD])], answered("slm", Reason.CONFIDENT, confidence([*THOUGHT, *GOOD]))
    ),
    "direct": record([call("llm")], answered("llm", Reason.POLICY), direct(tier="llm")),
    "direct and followed": record(
        [call("slm", GOOD, verdict=Verdict.COMMIT, kept=3)],
        answered("slm", Reason.POLICY),
        direct(tier="slm", follow=True),
    ),
    "the slm won by a commit": record(
        [committed(), outrun("llm", 0.61, because=Reason.OUTRAN)],
        answered("slm", Reason.COMMITTED, confidence(SURE[:6])),
        hedged(),
        stream=True,
    ),
    "the slm won at its end": record(
        [judged(GOOD), outrun("llm", 2.01, because=Reason.OUTRAN)],
        answered("slm", Reason.CONFIDENT, confidence(GOOD)),
        hedged(),
    ),
    "the llm won by its first byte": record(
        [outrun("slm", 0.55, SURE[:5]), call("llm", because=Reason.OUTRAN, first=0.54)],
        answered("llm", Reason.OUTRAN),
        hedged(),
        stream=True,
    ),
    "the llm won at its end": record(
        [outrun("slm", 1.01, worth(0.7, 8)), call("llm", because=Reason.OUTRAN, seconds=1.0)],
        answered("llm", Reason.OUTRAN),
        hedged(),
    ),
    "the llm won after the slm had given up": record(
        [stopped(HOPELESS), call("llm", because=Reason.OUTRAN)],
        answered("llm", Reason.GAVE_UP, stopped(HOPELESS).confidence),
        hedged(),
    ),
    "the slm committed too, but second": record(
        [outrun("slm", 0.61, SURE[:6], kept=6), call("llm", because=Reason.OUTRAN, first=0.59)],
        answered("llm", Reason.OUTRAN),
        hedged(),
        stream=True,
    ),
    "no slm in the race": record(
        [failed("slm", tokens=[]), call("llm", because=Reason.OUTRAN)],
        answered("llm", Reason.NO_SLM),
        hedged(),
    ),
    "no slm configured for the race": record(
        [call("llm", because=Reason.OUTRAN)], answered("llm", Reason.NO_SLM), hedged(), tiers=("llm",)
    ),
    "no llm in the race": record(
        [judged(POOR), failed("llm", because=Reason.OUTRAN)],
        answered("slm", Reason.NO_LLM, confidence(POOR)),
        hedged(),
    ),
    "the race's winner lost midway and resumed": record(
        [lost_midway(), outrun("llm", 0.61, because=Reason.OUTRAN), observed(POOR, resumed=True)],
        answered("slm", Reason.COMMITTED, confidence(SURE[:6], None)),
        hedged(),
        stream=True,
    ),
    "the race's winner spliced": record(
        [stopped(SENTENCE, kept=8), outrun("llm", 0.81, because=Reason.OUTRAN), call("llm", resumed=True)],
        answered("slm+llm", Reason.GAVE_UP, stopped(SENTENCE).confidence),
        hedged(release="splice"),
        stream=True,
    ),
    "the llm lost after it won": record(
        [outrun("slm", 0.55, SURE[:5]), failed("llm", "lost", because=Reason.OUTRAN, begun=True, first=0.54)],
        None,
        hedged(),
        stream=True,
        status=502,
        error="x",
    ),
    "a race cancelled": record(
        [failed("slm", "cancelled", GOOD, cost_usd=0.001), failed("llm", "cancelled", because=Reason.OUTRAN)],
        None,
        hedged(),
        cancelled=True,
    ),
    "a race out of time": record(
        [failed("slm", "ceiling", GOOD, cost_usd=0.001), failed("llm", "ceiling", because=Reason.OUTRAN)],
        None,
        hedged(),
        status=503,
        error="x",
    ),
}  # fmt: skip
"""One of each way an exchange goes."""


@pytest.mark.parametrize("name", CASES)
def test_a_record_is_reproduced_exactly(name: str) -> None:
    assert differences(replay(CASES[name])) == []


@pytest.mark.parametrize(
    ("name", "error"), [("nothing could be had", "down"), ("the llm lost mid-stream", "lost")]
)
def test_an_exchange_without_an_answer_replays_to_why(name: str, error: str) -> None:
    replayed = replay(CASES[name])
    assert (replayed.answer, replayed.error, replayed.missing) == (None, error, None)


@pytest.mark.parametrize(
    ("name", "escalates"),
    [
        ("accepted plain", False),
        ("escalated", True),
        ("gave up early", True),
        ("doubted, the llm down", True),
        ("lost mid-stream and resumed", False),
        ("not judged", True),
    ],
)
def test_an_exchange_escalates_where_the_llm_is_asked(name: str, escalates: bool) -> None:
    assert replay(CASES[name]).escalates == escalates


# --- what was changed is found


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"verdict": Verdict.GIVE_UP}, "call 1 verdict"),
        ({"reason": Reason.LOW_CONFIDENCE}, "call 1 reason"),
        ({"confidence": 0.71}, "call 1 confidence"),
        ({"kept": 2}, "call 1 kept"),
    ],
)
def test_a_changed_field_of_a_call_is_found(changes: dict[str, Any], what: str) -> None:
    true = CASES["accepted plain"]
    line = true.exchange.calls[0].model_copy(update=changes)
    (found,) = differences(replay(record([line], true.exchange.answer)))
    assert found.startswith(f"{what}: recorded {next(iter(changes.values()))!r}, replayed ")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"route": "llm"}, "route"),
        ({"reason": Reason.NO_LLM}, "answer's reason"),
        ({"confidence": None}, "answer's confidence"),
    ],
)
def test_a_changed_field_of_the_answer_is_found(changes: dict[str, Any], what: str) -> None:
    true = CASES["accepted plain"].exchange
    assert true.answer is not None
    tampered = record(true.calls, true.answer.model_copy(update=changes))
    (found,) = differences(replay(tampered))
    assert found.startswith(f"{what}: recorded ")


@pytest.mark.parametrize(
    ("changes", "what"), [({"cost_usd": 1.0}, "cost"), ({"answer": None, "cancelled": True}, "cancelled")]
)
def test_a_changed_field_of_the_exchange_is_found(changes: dict[str, Any], what: str) -> None:
    true = CASES["accepted plain"]
    tampered = true.model_copy(update={"exchange": true.exchange.model_copy(update=changes)})
    assert f"{what}:" in " ".join(differences(replay(tampered)))


def test_a_changed_stopping_token_is_found_with_its_cost() -> None:
    longer = stopped([*HOPELESS, *HOPELESS], confidence=stopped(HOPELESS).confidence, cost_usd=0.5)
    true = CASES["gave up early"]
    found = differences(replay(record([longer, *true.exchange.calls[1:]], true.exchange.answer)))
    assert [line.split(":")[0] for line in found] == ["call 1 stopping token", "call 1 cost", "cost"]
    assert found[0] == "call 1 stopping token: recorded 12, replayed 6"


def test_a_call_that_should_not_be_there_is_found() -> None:
    true = CASES["accepted plain"].exchange
    found = differences(replay(record([*true.calls, call("llm", cost_usd=0.0)], true.answer)))
    assert found == ["calls: recorded 2, replayed 1"]


def test_a_failure_said_to_be_made_good_that_was_not_is_found() -> None:
    true = CASES["all of a tier failed"].exchange
    alone = [line.model_copy(update={"retried": False}) for line in true.calls]
    assert differences(replay(record(alone, true.answer))) == [
        "calls: recorded 3, replayed 2",
        "cost: recorded " + f"{true.cost_usd!r}, replayed {true.calls[0].cost_usd!r}",
    ]


def test_failures_made_good_cost_what_they_cost_only_where_their_ask_is_made() -> None:
    both = CASES["the first llm failed, the second answered"].exchange
    lost = failed("llm", "lost", cost_usd=0.5, retried=True)
    true = record([both.calls[0], lost, both.calls[2]], both.answer)
    assert replay(true).cost_usd == both.calls[0].cost_usd + 0.5 + both.calls[2].cost_usd
    lenient = replay(true, policy(accept=0.0, commit=None, give_up=None).router)
    assert (lenient.escalates, lenient.cost_usd) == (False, both.calls[0].cost_usd)


def test_a_call_that_is_not_there_is_found() -> None:
    true = CASES["escalated"].exchange
    found = differences(replay(record(true.calls[:1], true.answer)))
    assert [line.split(":")[0] for line in found] == [
        "route",
        "answer's reason",
        "answer's confidence",
        "missing",
    ]


def test_a_policy_that_was_changed_is_found() -> None:
    true = CASES["accepted plain"]
    assert differences(replay(true.model_copy(update={"policy": policy(accept=0.75)})))


# --- another policy

ACCEPT = st.sampled_from([0.3, 0.45, 0.6, 0.75, 0.9])


@given(ACCEPT, ACCEPT, st.lists(st.floats(0.02, 0.95), min_size=1, max_size=8), st.data())
def test_another_accept_changes_exactly_the_decisions_between_the_two(
    was: float, now: float, worths: list[float], data: st.DataObject
) -> None:
    low, high = sorted((was, now))
    settings = {"commit": None, "give_up": data.draw(st.sampled_from([None, 0.0]))}
    other = policy(accept=now, **settings).router
    for value in worths:
        draft = worth(value, data.draw(st.integers(1, 12)))
        line = judged(draft, accept=was)
        calls = [line] if line.verdict is Verdict.COMMIT else [line, call("llm")]
        recorded = record(calls, None, policy(accept=was, **settings))
        changed = replay(recorded, other).escalates != replay(recorded).escalates
        assert changed == (low <= confidence(draft) < high)


def test_a_stricter_policys_escalation_has_no_recorded_answer() -> None:
    replayed = replay(CASES["accepted plain"], policy(accept=0.75).router)
    assert replayed.missing is not None
    assert (replayed.missing.tier, replayed.missing.because) == ("llm", Reason.LOW_CONFIDENCE)
    assert (replayed.answer, replayed.escalates) == (None, True)


def test_a_laxer_policy_needs_no_llm() -> None:
    replayed = replay(CASES["escalated"], policy(accept=0.25).router)
    assert replayed.answer is not None
    assert (replayed.answer.route, replayed.escalates) == ("slm", False)
    assert replayed.cost_usd == CASES["escalated"].exchange.calls[0].cost_usd


@pytest.mark.parametrize("name", ["cancelled mid-draft", "cancelled while the answer left"])
def test_a_client_that_left_later_does_not_hide_an_escalation(name: str) -> None:
    true = CASES[name].exchange
    sooner = record(
        [true.calls[0].model_copy(update={"tokens": tokens_line(worth(0.7, 6))})], None, cancelled=True
    )
    replayed = replay(sooner, policy(accept=0.95, commit=None, give_up=0.9).router)
    assert (replayed.escalates, replayed.cancelled) == (True, False)


def test_a_draft_given_up_early_is_unknown_past_its_last_token() -> None:
    replayed = replay(CASES["gave up early"], policy(give_up=None).router)
    assert replayed.missing is not None
    assert (replayed.missing.tier, replayed.escalates) == ("slm", False)


def test_a_draft_given_up_sooner_costs_what_it_had_written() -> None:
    draft = worth(0.3, 12)
    ran = record([judged(draft), call("llm")], None)
    priced = ran.exchange.calls[0].model_copy(update={"started": 0.05})
    replayed = replay(record([priced, call("llm")], None), policy(give_up=0.4).router)
    first = replayed.calls[0]
    assert (first.stopped_at, first.reason) == (6, Reason.GAVE_UP)
    assert first.cost_usd == cost(Usage(PROMPT, 6), PRICE["slm"], 0.1 * 6 - 0.05)


def test_a_draft_given_up_at_its_last_token_still_has_no_end() -> None:
    ran = record([judged(worth(0.3, 6)), call("llm")], None)
    first = replay(ran, policy(give_up=0.4).router).calls[0]
    assert (first.stopped_at, first.reason) == (6, Reason.GAVE_UP)
    assert first.cost_usd == cost(Usage(PROMPT, 6), PRICE["slm"], 0.1 * 6)


def test_a_direct_policy_takes_a_followed_draft_as_it_is() -> None:
    replayed = replay(CASES["accepted plain"], Direct(tier="slm"))
    assert replayed.answer is not None
    assert (replayed.answer.reason, replayed.cost_usd) == (
        Reason.POLICY,
        CASES["accepted plain"].exchange.cost_usd,
    )


def test_a_direct_policy_knows_no_whole_draft_where_one_was_given_up() -> None:
    replayed = replay(CASES["gave up early"], Direct(tier="slm"))
    assert replayed.missing is not None
    assert replayed.missing.tier == "slm"


def test_a_draft_nobody_followed_cannot_be_watched() -> None:
    replayed = replay(CASES["no llm, not judged"], Direct(tier="slm", follow=True))
    assert replayed.missing is None
    watched = record([call("slm")], None)
    replayed = replay(watched)
    assert replayed.missing is not None
    assert replayed.missing.tier == "slm"


def test_a_call_that_failed_before_it_was_followed_fails_again() -> None:
    replayed = replay(record([failed("slm"), call("llm")], answered("llm", Reason.NO_SLM)))
    assert differences(replayed) == []


# --- another policy: races

LATE = call("llm", because=Reason.OUTRAN, first=1.5)
"""A large model that begins to write after a second and a half, and ends after two."""


def race(small: CallLine, large: CallLine, **changes: Any) -> Record:
    return record([small, large], None, hedged(), **{"stream": True, **changes})


def estimated(tier: Tier, at: float) -> float:
    """Dollars of a call that would have written 20 tokens in two seconds."""
    return cost(Usage(PROMPT, round(20 * at / 2.0)), PRICE[tier], at)


def test_a_draft_that_would_now_commit_first_outruns_the_large_model() -> None:
    line = call("slm", worth(0.75, 20), verdict=Verdict.COMMIT, reason=Reason.CONFIDENT)
    recorded = race(line, LATE)
    assert (won := replay(recorded).answer) is not None
    assert (won.route, won.reason) == ("llm", Reason.OUTRAN)
    replayed = replay(recorded, hedged(commit=0.7).router)
    assert replayed.answer is not None
    assert (replayed.answer.route, replayed.answer.reason) == ("slm", Reason.COMMITTED)
    small, large = replayed.calls
    assert small.cost_usd == line.cost_usd
    assert large.cost_usd == pytest.approx(estimated("llm", 0.6))
    assert (large.verdict, large.kept) == (None, 0)


def test_a_draft_that_would_now_be_outrun_costs_what_it_had_written() -> None:
    line = call("slm", worth(0.75, 20))
    recorded = race(line, call("llm", because=Reason.OUTRAN, first=1.0))
    replayed = replay(recorded, hedged(commit=0.8).router)
    assert replayed.answer is not None
    assert (replayed.answer.route, replayed.answer.reason) == ("llm", Reason.OUTRAN)
    assert replayed.calls[0].cost_usd == pytest.approx(estimated("slm", 1.0))
    assert (replayed.calls[0].verdict, replayed.calls[0].confidence) == (None, None)


def test_a_draft_given_up_sooner_than_the_large_model_begins_says_why() -> None:
    line = call("slm", worth(0.3, 20))
    replayed = replay(race(line, LATE), hedged(give_up=0.4).router)
    assert replayed.answer is not None
    assert (replayed.answer.route, replayed.answer.reason) == ("llm", Reason.GAVE_UP)
    assert replayed.calls[0].cost_usd == cost(Usage(PROMPT, 6), PRICE["slm"], 0.1 * 6)


def test_a_plain_large_answer_takes_the_floor_when_it_is_whole() -> None:
    line = call("slm", worth(0.75, 15), seconds=1.5)
    for seconds, route in ((1.4, "llm"), (1.6, "slm")):
        large = call("llm", because=Reason.OUTRAN, seconds=seconds)
        replayed = replay(race(line, large, stream=False))
        assert replayed.answer is not None
        assert replayed.answer.route == route


def test_of_two_that_commit_together_the_first_asked_has_the_floor() -> None:
    large = call("llm", because=Reason.OUTRAN, first=tokens_line(SURE).at[5], seconds=tokens_line(SURE).at[5])
    replayed = replay(race(call("slm", SURE), large))
    assert replayed.answer is not None
    assert replayed.answer.route == "slm"


def test_a_leg_that_failed_before_the_other_committed_is_not_outrun() -> None:
    replayed = replay(race(call("slm", SURE), failed("llm", "busy", because=Reason.OUTRAN, seconds=0.1)))
    assert replayed.answer is not None
    assert (replayed.answer.route, replayed.calls[1].cost_usd) == ("slm", 0.0)


def test_a_leg_that_failed_later_would_have_been_outrun() -> None:
    line = failed("slm", "lost", worth(0.5, 15), usage=UsageLine(prompt_tokens=PROMPT, completion_tokens=20))
    replayed = replay(race(line, call("llm", because=Reason.OUTRAN, first=1.0)))
    assert replayed.answer is not None
    assert (replayed.answer.route, replayed.answer.reason) == ("llm", Reason.OUTRAN)
    assert replayed.calls[0].cost_usd == pytest.approx(estimated("slm", 1.0))


@pytest.mark.parametrize(
    ("small", "large", "changes"),
    [
        (committed(), outrun("llm", 0.61, because=Reason.OUTRAN), {"commit": 0.95}),
        (committed(), outrun("llm", 0.61, because=Reason.OUTRAN), {"commit": 0.99, "accept": 0.98}),
        (outrun("slm", 0.55, worth(0.9, 5)), failed("llm", because=Reason.OUTRAN), {}),
        (stopped(HOPELESS), LATE, {"give_up": None}),
    ],
    ids=["commits later", "does not commit", "nobody commits", "is not given up"],
)
def test_who_would_have_won_past_the_end_of_a_leg_is_not_known(
    small: CallLine, large: CallLine, changes: dict[str, Any]
) -> None:
    replayed = replay(race(small, large), hedged(**changes).router)
    assert replayed.missing is not None
    assert (replayed.answer, replayed.error, replayed.escalates) == (None, None, True)


def test_a_draft_that_came_second_would_have_won_a_race_that_it_was_cut_from() -> None:
    small = outrun("slm", 0.61, SURE[:6], kept=6)
    replayed = replay(race(small, LATE))
    assert isinstance(replayed.missing, Both)


def test_a_client_that_left_before_the_second_leg_began_ends_the_race() -> None:
    recorded = record([failed("slm", "cancelled", GOOD[:1])], None, hedged(), cancelled=True)
    assert differences(replay(recorded)) == []


@pytest.mark.parametrize("router", [Direct(tier="llm"), policy(accept=0.95, commit=None).router])
def test_an_answer_that_was_outrun_is_known_to_nobody(router: Router) -> None:
    replayed = replay(CASES["the slm won by a commit"], router)
    assert isinstance(replayed.missing, Generate)
    assert replayed.missing.tier == "llm"


def test_a_draft_that_was_outrun_is_unknown_past_its_last_token() -> None:
    replayed = replay(CASES["the llm won by its first byte"], policy().router)
    assert isinstance(replayed.missing, Generate)
    assert replayed.missing.tier == "slm"


def test_a_draft_given_up_before_it_was_outrun_is_known() -> None:
    recorded = race(outrun("slm", 0.95, worth(0.5, 9)), call("llm", because=Reason.OUTRAN, first=0.94))
    replayed = replay(recorded, policy(accept=0.7, give_up=0.6).router)
    assert (replayed.calls[0].reason, replayed.calls[0].stopped_at) == (Reason.GAVE_UP, 6)
    assert replayed.answer is not None
    assert replayed.answer.route == "llm"


@pytest.mark.parametrize("name", ["escalated", "accepted plain"])
def test_calls_made_one_after_the_other_do_not_tell_who_wins_a_race(name: str) -> None:
    replayed = replay(CASES[name], hedged().router)
    assert isinstance(replayed.missing, Both)
    assert replayed.escalates


# --- another policy: judgements


@pytest.mark.parametrize(("accept", "route"), [(0.3, "slm"), (0.5, "llm")])
def test_a_recorded_judgement_is_weighed_anew(accept: float, route: str) -> None:
    recorded = record([held(GOOD), judgement(0.4), call("llm")], None, JUDGING)
    replayed = replay(recorded, policy(release="hold", judge=Verify(accept=accept)).router)
    assert replayed.answer is not None
    assert (replayed.answer.route, replayed.answer.reason) == (route, Reason.JUDGED)


@pytest.mark.parametrize("tier", ["slm", "llm"])
def test_a_judgement_that_nobody_made_is_missing(tier: Tier) -> None:
    replayed = replay(CASES["accepted plain"], policy(release="hold", judge=Verify(tier=tier)).router)
    assert isinstance(replayed.missing, Judge)
    assert (replayed.missing.tier, replayed.escalates) == (tier, tier == "llm")


def test_a_draft_too_sure_to_be_judged_needs_no_judgement() -> None:
    replayed = replay(CASES["accepted plain"], policy(release="hold", judge=Verify(below=0.65)).router)
    assert (replayed.missing, replayed.escalates) == (None, False)


def test_a_judges_call_is_no_answer() -> None:
    replayed = replay(record([judgement(0.9), judged(GOOD)], None))
    assert replayed.answer is not None
    assert len(replayed.calls) == 1


# --- another policy: what is known of the request


@pytest.mark.parametrize("router", [Difficulty(gate=GATE), policy(gate=GATE).router])
def test_a_prompt_that_was_not_measured_cannot_be_routed_by_its_measures(router: Router) -> None:
    with pytest.raises(RecordError, match="exchange sf-1: its record has no features of the prompt"):
        replay(CASES["accepted plain"], router)


@pytest.mark.parametrize(("turns", "route"), [(3.0, "slm"), (4.0, "llm")])
def test_a_measured_prompt_is_routed_by_its_measures(turns: float, route: str) -> None:
    recorded = record([call("slm"), call("llm")], None, features={"turns": turns})
    replayed = replay(recorded, Difficulty(gate=GATE))
    assert replayed.answer is not None
    assert replayed.answer.route == route


def test_a_draft_for_a_request_that_is_checked_whole_does_not_flow() -> None:
    recorded = record([call("slm", SURE)], None, stream=True, whole=True)
    assert (found := replay(recorded).answer) is not None
    assert found.reason is Reason.CONFIDENT


@pytest.mark.parametrize(
    ("able", "reason"),
    [(("slm",), Reason.NO_LLM), (("llm",), Reason.NOT_CAPABLE), (("slm", "llm"), Reason.CONFIDENT)],
)
def test_who_could_serve_the_request_is_recorded(able: tuple[Tier, ...], reason: Reason) -> None:
    replayed = replay(record([judged(GOOD), call("llm")], None, able=able))
    assert replayed.answer is not None
    assert replayed.answer.reason is reason


def test_a_tier_that_was_not_configured_stays_so() -> None:
    replayed = replay(CASES["no llm"], Direct(tier="llm", fallback=False))
    assert (replayed.error, replayed.missing) == ("not_configured", None)
