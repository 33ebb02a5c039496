"""The gate by hand, and every branch of the plan behind it."""

from math import exp, log1p
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.router_builders import scorer, settled

from routers.confidence.calibration import Logistic
from routers.fragments.fallback import RESTART_PATIENCE
from routers.plan import NO_FEATURES, Answer, Draft, Generate, Reason, Tier, Unavailable
from routers.router import Request
from routers.strategies.difficulty import FEATURES, MAX_PROMPT_CHARS, Difficulty, Gate, measure_features

GATE = Gate(limits={"turns": 3.0})
EASY, HARD = {"turns": 3.0}, {"turns": 4.0}
SMALL, LARGE = Draft("slm", "small", finish="stop"), Draft("llm", "large", finish="stop")
SLM_ONLY = frozenset[Tier](["slm"])
LLM_ONLY = frozenset[Tier](["llm"])


def lost(why: str = "down", tier: Tier = "slm", partial: Draft | None = None) -> Unavailable:
    return Unavailable(why, tier, partial=partial)


def run(*outcomes: Any, **request: Any) -> tuple[list[Any], Answer | Unavailable]:
    return settled(Difficulty(gate=GATE).plan(Request(**{"features": EASY, **request})), *outcomes)


def asked(asks: list[Any]) -> list[tuple[str, Reason]]:
    return [(ask.tier, ask.because) for ask in asks]


# --- what is measured


def test_every_feature_has_a_value_and_no_other() -> None:
    assert tuple(measure_features("", 0, 0)) == FEATURES


@pytest.mark.parametrize(
    ("prompt", "name", "value"),
    [
        ("abc", "log_length", log1p(3)),
        ("", "log_length", 0.0),
        ("a\nb\n", "lines", 3.0),
        ("", "lines", 1.0),
        ("12 and 3,400.5 of x9", "numbers", 3.0),
        ("ab12", "digit_share", 0.5),
        ("", "digit_share", 0.0),
        ("```py\nreturn x;\n```", "code", 4.0),
        ("use `x` in a class", "code", 2.0),
        ("a classic import-free function", "code", 2.0),
        ("nothing to see", "code", 0.0),
        ("why? how?", "questions", 2.0),
        ("aéü!", "non_ascii_share", 0.5),
        ("plain", "non_ascii_share", 0.0),
        ("four incredibly", "long_word_share", 0.5),
        ("sevenxx eightxxx", "long_word_share", 0.5),
        ("", "long_word_share", 0.0),
    ],
)
def test_a_prompt_is_measured(prompt: str, name: Any, value: float) -> None:
    assert measure_features(prompt, 0, 1)[name] == pytest.approx(value)


def test_the_conversation_counts_beside_the_prompt() -> None:
    found = measure_features("abc", 99, 4)
    assert (found["log_context"], found["turns"]) == (pytest.approx(log1p(99)), 4.0)


def test_only_the_end_of_a_long_prompt_is_read() -> None:
    end = "x" * MAX_PROMPT_CHARS
    assert measure_features("? 1 ü" + end, 0, 1) == measure_features(end, 0, 1)


@given(st.text(), st.integers(0, 10**6), st.integers(0, 100))
def test_every_measure_is_in_its_range(prompt: str, context: int, turns: int) -> None:
    found = measure_features(prompt, context, turns)
    assert all(value >= 0.0 for value in found.values())
    assert all(found[name] <= 1.0 for name in ("digit_share", "non_ascii_share", "long_word_share"))


# --- the gate


def test_a_score_is_the_logistic_of_the_standardised_features() -> None:
    assert scorer().score({"turns": 4.0, "lines": 7.0}) == pytest.approx(1.0 / (1.0 + exp(-0.5)))


@given(st.floats(-1e9, 1e9))
def test_a_score_lies_between_never_and_always(turns: float) -> None:
    assert 0.0 < scorer().score({"turns": turns}) < 1.0


@pytest.mark.parametrize(("turns", "easy"), [(4.99, True), (5.0, True), (5.01, False)])
def test_a_prompt_whose_score_reaches_the_threshold_is_easy(turns: float, easy: bool) -> None:
    assert Gate(scorer=scorer(), easy_from=0.5).is_easy({"turns": turns}) == easy


@pytest.mark.parametrize(("found", "easy"), [(EASY, True), (HARD, False)])
def test_a_prompt_over_a_limit_is_hard(found: dict[str, float], easy: bool) -> None:
    assert GATE.is_easy(found) == easy


def test_a_prompt_over_a_limit_is_hard_whatever_its_score() -> None:
    gate = Gate(scorer=scorer(), easy_from=0.0, limits={"turns": 3.0, "lines": 5.0})
    assert gate.is_easy({"turns": 3.0, "lines": 5.0})
    assert not gate.is_easy({"turns": 1.0, "lines": 6.0})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "a gate needs a scorer, or limits, or both"),
        ({"easy_from": 0.5}, "a gate needs a scorer, or limits, or both"),
        ({"limits": {"vibes": 1.0}}, "Input should be 'log_length'"),
        ({"limits": {"turns": float("nan")}}, "finite number"),
        ({"limits": {"turns": 1.0}, "easy_from": 1.5}, "less than or equal to 1"),
        ({"limits": {"turns": 1.0}, "hard_from": 0.5}, "Extra inputs"),
    ],
)
def test_a_gate_that_says_nothing_or_nonsense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Gate.model_validate(fields)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"center": ()}, "center has 0 values for 1 features"),
        ({"scale": (1.0, 1.0)}, "scale has 2 values for 1 features"),
        ({"rule": Logistic(intercept=0.0, weights=())}, "rule.weights has 0 values for 1 features"),
        ({"features": ()}, "at least 1 item"),
        ({"scale": (0.0,)}, "greater than 0"),
    ],
)
def test_a_scorer_that_does_not_fit_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        scorer(**changes)


# --- the plan


def test_it_needs_the_prompts_features() -> None:
    assert Difficulty(gate=GATE).reads_features


def test_an_easy_prompt_is_the_small_models() -> None:
    asks, answer = run(SMALL)
    assert asks == [Generate("slm", because=Reason.EASY)]
    assert answer == Answer((SMALL,), Reason.EASY)


def test_a_hard_prompt_is_the_large_models() -> None:
    asks, answer = run(LARGE, features=HARD)
    assert asks == [Generate("llm", because=Reason.TOO_HARD)]
    assert answer == Answer((LARGE,), Reason.TOO_HARD)


@pytest.mark.parametrize(
    ("why", "reason"),
    [("down", Reason.NO_SLM), ("busy", Reason.NO_SLM), ("context", Reason.CONTEXT_TOO_LONG)],
)
def test_an_easy_prompt_goes_to_the_large_model_where_the_small_cannot_be_had(
    why: str, reason: Reason
) -> None:
    asks, answer = run(lost(why), LARGE)
    assert asked(asks) == [("slm", Reason.EASY), ("llm", reason)]
    assert answer == Answer((LARGE,), reason)


@pytest.mark.parametrize("first", [lost("rejected"), lost("lost", partial=Draft("slm"))])
def test_an_easy_prompt_fails_where_the_request_is_at_fault_or_its_answer_begun(first: Unavailable) -> None:
    asks, error = run(first)
    assert len(asks) == 1
    assert error is first


def test_an_easy_prompt_fails_as_its_fallback_does() -> None:
    second = lost("down", "llm")
    assert run(lost("down"), second)[1] is second


def test_a_hard_prompt_is_the_small_models_where_the_large_cannot_be_had() -> None:
    asks, answer = run(lost("down", "llm"), SMALL, features=HARD)
    assert asks[1] == Generate("slm", patience=RESTART_PATIENCE, because=Reason.NO_LLM)
    assert answer == Answer((SMALL,), Reason.NO_LLM)


@pytest.mark.parametrize("gone", [lost("rejected", "llm"), lost("lost", "llm", Draft("llm"))])
def test_a_hard_prompt_fails_where_the_request_is_at_fault_or_its_answer_begun(gone: Unavailable) -> None:
    asks, error = run(gone, features=HARD)
    assert len(asks) == 1
    assert error is gone


@pytest.mark.parametrize("without", [{"tiers": SLM_ONLY}, {"able": SLM_ONLY}], ids=["tiers", "able"])
def test_without_a_large_model_for_it_a_hard_prompt_is_the_small_models(without: dict[str, Any]) -> None:
    asks, answer = run(SMALL, features=HARD, **without)
    assert asks == [Generate("slm", patience=RESTART_PATIENCE, because=Reason.NO_LLM)]
    assert answer == Answer((SMALL,), Reason.NO_LLM)


def test_what_the_small_model_cannot_serve_is_the_large_models_alone() -> None:
    asks, answer = run(LARGE, able=LLM_ONLY, features=NO_FEATURES)
    assert asked(asks) == [("llm", Reason.NOT_CAPABLE)]
    assert answer == Answer((LARGE,), Reason.NOT_CAPABLE)
    gone = lost("down", "llm")
    assert run(gone, able=LLM_ONLY, features=NO_FEATURES)[1] is gone
