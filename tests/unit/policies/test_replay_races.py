"""Replay of races and judgements under another policy: who would have won, at what cost, and what is not known."""

from typing import Any

import pytest
from support.record_builders import (
    PRICE,
    PROMPT,
    call,
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
from support.replay_cases import CASES, GOOD, HOPELESS, JUDGING, SURE, committed, held
from support.router_builders import worth

from policies.records.differences import find_differences
from policies.records.replay import replay
from policies.records.schema import CallLine, Record, UsageLine
from routers.cost import compute_cost
from routers.judges.draft_judge import Verify
from routers.plan import Both, Generate, Judge, Reason, Tier, Usage, Verdict
from routers.router import Router
from routers.strategies.direct import Direct

# --- races

LATE = call("llm", because=Reason.OUTRAN, first=1.5)
"""A large model that begins to write after a second and a half, and ends after two."""


def race(small: CallLine, large: CallLine, **changes: Any) -> Record:
    return record([small, large], None, hedged(), **{"stream": True, **changes})


def estimated(tier: Tier, at: float) -> float:
    """Dollars of a call that would have written 20 tokens in two seconds."""
    return compute_cost(Usage(PROMPT, round(20 * at / 2.0)), PRICE[tier], at)


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
    assert replayed.calls[0].cost_usd == compute_cost(Usage(PROMPT, 6), PRICE["slm"], 0.1 * 6)


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
    assert (replayed.answer, replayed.error, replayed.is_escalated) == (None, None, True)


def test_a_draft_that_came_second_would_have_won_a_race_that_it_was_cut_from() -> None:
    small = outrun("slm", 0.61, SURE[:6], kept=6)
    replayed = replay(race(small, LATE))
    assert isinstance(replayed.missing, Both)


def test_a_client_that_left_before_the_second_leg_began_ends_the_race() -> None:
    recorded = record([failed("slm", "cancelled", GOOD[:1])], None, hedged(), cancelled=True)
    assert find_differences(replay(recorded)) == []


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
    assert replayed.is_escalated


# --- judgements


@pytest.mark.parametrize(("accept", "route"), [(0.3, "slm"), (0.5, "llm")])
def test_a_recorded_judgement_is_weighed_anew(accept: float, route: str) -> None:
    recorded = record([held(GOOD), judgement(0.4), judgement(0.4), call("llm")], None, JUDGING)
    replayed = replay(recorded, policy(release="hold", judge=Verify(accept=accept)).router)
    assert replayed.answer is not None
    assert (replayed.answer.route, replayed.answer.reason) == (route, Reason.JUDGED)


@pytest.mark.parametrize("tier", ["slm", "llm"])
def test_a_judgement_that_nobody_made_is_missing(tier: Tier) -> None:
    replayed = replay(CASES["accepted plain"], policy(release="hold", judge=Verify(tier=tier)).router)
    assert isinstance(replayed.missing, Judge)
    assert (replayed.missing.tier, replayed.is_escalated) == (tier, tier == "llm")


def test_a_draft_too_sure_to_be_judged_needs_no_judgement() -> None:
    replayed = replay(CASES["accepted plain"], policy(release="hold", judge=Verify(below=0.65)).router)
    assert (replayed.missing, replayed.is_escalated) == (None, False)


def test_a_judges_call_is_no_answer() -> None:
    replayed = replay(record([judgement(0.9), judged(GOOD)], None))
    assert replayed.answer is not None
    assert len(replayed.calls) == 1
