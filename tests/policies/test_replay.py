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
    judged,
    policy,
    record,
    stopped,
    tokens_line,
)
from hypothesis import given
from hypothesis import strategies as st

from policies.schema import Policy
from policies.tuning.records import CallLine, Record
from policies.tuning.replay import differences, replay
from routers.cost import cost
from routers.direct import Direct
from routers.plan import Reason, Tier, Usage, Verdict

GOOD, POOR, HOPELESS, SURE = worth(0.7), worth(0.3), worth(0.1, 6), worth(0.9, 10)
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
    "direct": record([call("llm")], answered("llm", Reason.POLICY), direct(tier="llm")),
    "direct and followed": record(
        [call("slm", GOOD, verdict=Verdict.COMMIT, kept=3)],
        answered("slm", Reason.POLICY),
        direct(tier="slm", follow=True),
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


def test_a_tier_that_was_not_configured_stays_so() -> None:
    replayed = replay(CASES["no llm"], Direct(tier="llm", fallback=False))
    assert (replayed.error, replayed.missing) == ("not_configured", None)
