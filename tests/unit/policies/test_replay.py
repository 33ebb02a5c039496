"""Replay reproduces what happened, finds what was changed, and never guesses."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.record_builders import (
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
from support.replay_cases import CASES, GATE, GOOD, HOPELESS, SURE, judgement
from support.router_builders import worth

from policies.records.differences import find_differences
from policies.records.outcomes import ReplayedCall, ReplayResult
from policies.records.replay import replay
from policies.records.schema import RecordError
from routers.cost import compute_cost
from routers.plan import Reason, Tier, Usage, Verdict
from routers.router import Router
from routers.strategies.difficulty import Difficulty
from routers.strategies.direct import Direct


@pytest.mark.parametrize("name", CASES)
def test_a_record_is_reproduced_exactly(name: str) -> None:
    assert find_differences(replay(CASES[name])) == []


@given(st.lists(st.floats(min_value=0.0, max_value=1.0), max_size=20))
def test_costs_add_up_to_what_the_live_exchange_added_up(costs: list[float]) -> None:
    total = 0.0
    for usd in costs:
        total += usd
    case = CASES["escalated"]
    calls = [ReplayedCall(case.exchange.calls[0], cost_usd=usd) for usd in costs]
    assert ReplayResult(case, calls=calls).cost_usd == total


def test_of_an_exchange_aside_nothing_is_decided_anew_whatever_its_policy_reads() -> None:
    aside = record([judgement(0.3)], None, policy(gate=GATE), aside="evaluate")
    assert find_differences(replay(aside)) == []


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
    assert replay(CASES[name]).is_escalated == escalates


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
    (found,) = find_differences(replay(record([line], true.exchange.answer)))
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
    (found,) = find_differences(replay(tampered))
    assert found.startswith(f"{what}: recorded ")


@pytest.mark.parametrize(
    ("changes", "what"), [({"cost_usd": 1.0}, "cost"), ({"answer": None, "cancelled": True}, "cancelled")]
)
def test_a_changed_field_of_the_exchange_is_found(changes: dict[str, Any], what: str) -> None:
    true = CASES["accepted plain"]
    tampered = true.model_copy(update={"exchange": true.exchange.model_copy(update=changes)})
    assert f"{what}:" in " ".join(find_differences(replay(tampered)))


def test_a_changed_stopping_token_is_found_with_its_cost() -> None:
    longer = stopped([*HOPELESS, *HOPELESS], confidence=stopped(HOPELESS).confidence, cost_usd=0.5)
    true = CASES["gave up early"]
    found = find_differences(replay(record([longer, *true.exchange.calls[1:]], true.exchange.answer)))
    assert [line.split(":")[0] for line in found] == ["call 1 stopping token", "call 1 cost", "cost"]
    assert found[0] == "call 1 stopping token: recorded 12, replayed 6"


def test_a_call_that_should_not_be_there_is_found() -> None:
    true = CASES["accepted plain"].exchange
    found = find_differences(replay(record([*true.calls, call("llm", cost_usd=0.0)], true.answer)))
    assert found == ["calls: recorded 2, replayed 1"]


def test_a_failure_said_to_be_made_good_that_was_not_is_found() -> None:
    true = CASES["all of a tier failed"].exchange
    alone = [line.model_copy(update={"retried": False}) for line in true.calls]
    assert find_differences(replay(record(alone, true.answer))) == [
        "calls: recorded 3, replayed 2",
        "cost: recorded " + f"{true.cost_usd!r}, replayed {true.calls[0].cost_usd!r}",
    ]


def test_failures_made_good_cost_what_they_cost_only_where_their_ask_is_made() -> None:
    both = CASES["the first llm failed, the second answered"].exchange
    lost = failed("llm", "lost", cost_usd=0.5, retried=True)
    true = record([both.calls[0], lost, both.calls[2]], both.answer)
    assert replay(true).cost_usd == both.calls[0].cost_usd + 0.5 + both.calls[2].cost_usd
    lenient = replay(true, policy(accept=0.0, commit=None, give_up=None).router)
    assert (lenient.is_escalated, lenient.cost_usd) == (False, both.calls[0].cost_usd)


def test_a_call_that_is_not_there_is_found() -> None:
    true = CASES["escalated"].exchange
    found = find_differences(replay(record(true.calls[:1], true.answer)))
    assert [line.split(":")[0] for line in found] == [
        "route",
        "answer's reason",
        "answer's confidence",
        "missing",
    ]


def test_a_policy_that_was_changed_is_found() -> None:
    true = CASES["accepted plain"]
    assert find_differences(replay(true.model_copy(update={"policy": policy(accept=0.75)})))


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
        changed = replay(recorded, other).is_escalated != replay(recorded).is_escalated
        assert changed == (low <= confidence(draft) < high)


def test_a_stricter_policys_escalation_has_no_recorded_answer() -> None:
    replayed = replay(CASES["accepted plain"], policy(accept=0.75).router)
    assert replayed.missing is not None
    assert (replayed.missing.tier, replayed.missing.because) == ("llm", Reason.LOW_CONFIDENCE)
    assert (replayed.answer, replayed.is_escalated) == (None, True)


def test_a_laxer_policy_needs_no_llm() -> None:
    replayed = replay(CASES["escalated"], policy(accept=0.25).router)
    assert replayed.answer is not None
    assert (replayed.answer.route, replayed.is_escalated) == ("slm", False)
    assert replayed.cost_usd == CASES["escalated"].exchange.calls[0].cost_usd


@pytest.mark.parametrize("name", ["cancelled mid-draft", "cancelled while the answer left"])
def test_a_client_that_left_later_does_not_hide_an_escalation(name: str) -> None:
    true = CASES[name].exchange
    sooner = record(
        [true.calls[0].model_copy(update={"tokens": tokens_line(worth(0.7, 6))})], None, cancelled=True
    )
    replayed = replay(sooner, policy(accept=0.95, commit=None, give_up=0.9).router)
    assert (replayed.is_escalated, replayed.cancelled) == (True, False)


def test_a_draft_given_up_early_is_unknown_past_its_last_token() -> None:
    replayed = replay(CASES["gave up early"], policy(give_up=None).router)
    assert replayed.missing is not None
    assert (replayed.missing.tier, replayed.is_escalated) == ("slm", False)


def test_a_draft_given_up_sooner_costs_what_it_had_written() -> None:
    draft = worth(0.3, 12)
    ran = record([judged(draft), call("llm")], None)
    priced = ran.exchange.calls[0].model_copy(update={"started": 0.05})
    replayed = replay(record([priced, call("llm")], None), policy(give_up=0.4).router)
    first = replayed.calls[0]
    assert (first.stopped_at, first.reason) == (6, Reason.GAVE_UP)
    assert first.cost_usd == compute_cost(Usage(PROMPT, 6), PRICE["slm"], 0.1 * 6 - 0.05)


def test_a_draft_given_up_at_its_last_token_still_has_no_end() -> None:
    ran = record([judged(worth(0.3, 6)), call("llm")], None)
    first = replay(ran, policy(give_up=0.4).router).calls[0]
    assert (first.stopped_at, first.reason) == (6, Reason.GAVE_UP)
    assert first.cost_usd == compute_cost(Usage(PROMPT, 6), PRICE["slm"], 0.1 * 6)


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
    assert find_differences(replayed) == []


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
