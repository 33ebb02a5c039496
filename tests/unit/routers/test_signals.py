"""Each signal against a value by hand or from numpy, and what holds of all drafts."""

from collections.abc import Sequence
from math import exp, inf, isfinite, log
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.router_builders import token, tokens

from routers.confidence.answer_words import build_stand_in, token_shape
from routers.confidence.signals import (
    MIN_LOGPROB,
    SIGNALS,
    MissingLogprobs,
    SignalName,
    Signals,
    compute_signals,
    to_probability,
)
from routers.plan import Token

LOGPROBS = [-0.1, -2.0, -0.3, -5.0, -0.2, -0.4, -1.1, -0.6]
DRAFT = tokens(*LOGPROBS)
ANY_LOGPROB = st.floats(-1e38, 0.0) | st.just(-inf)
ANY_TOKEN = st.builds(
    lambda text, logprob, top: Token(text, logprob, sorted(top, reverse=True)),
    st.sampled_from(["a", " b", "c", ",", ".", "\n"]),
    ANY_LOGPROB,
    st.lists(ANY_LOGPROB, min_size=2, max_size=5),
)
DRAFTS = st.lists(ANY_TOKEN, min_size=1, max_size=40)
REASONING: tuple[SignalName, ...] = ("reasoning_mean", "reasoning_min", "reasoning_log_length")
ORDERLESS: tuple[SignalName, ...] = (
    "mean",
    "q10",
    "q25",
    "median",
    "min",
    "entropy_mean",
    "entropy_max",
    "margin_mean",
    "margin_min",
    "log_length",
    "distinct",
)


def entropy(*p: float) -> float:
    return -sum(each * log(each) for each in p)


def spread(*distributions: Sequence[float]) -> list[Token]:
    return [token(-0.1, top=[log(p) for p in each]) for each in distributions]


@given(DRAFTS, st.lists(st.sampled_from(SIGNALS), min_size=1))
def test_wanted_signals_have_the_values_that_they_have_among_all(
    draft: list[Token], names: list[SignalName]
) -> None:
    collected = Signals()
    for each in draft:
        collected.add(each)
    found = collected.compute("stop", names)
    whole = compute_signals(draft, "stop")
    assert {name: found[name] for name in names} == {name: whole[name] for name in names}


def test_every_signal_has_a_value_and_no_other() -> None:
    assert tuple(compute_signals(DRAFT)) == SIGNALS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mean", np.mean(LOGPROBS)),
        ("q10", np.quantile(LOGPROBS, 0.10)),
        ("q25", np.quantile(LOGPROBS, 0.25)),
        ("median", np.median(LOGPROBS)),
        ("min", -5.0),
        ("first", -0.1),
        ("log_length", np.log(9)),
        ("window_min", np.mean([-2.0, -0.3, -5.0, -0.2, -0.4])),
        ("repetition", 0.0),
        ("truncated", 0.0),
        ("stop", 0.0),
        ("distinct", 1.0),
    ],
)
def test_signals_of_the_chosen_tokens(name: SignalName, value: float) -> None:
    assert compute_signals(DRAFT)[name] == pytest.approx(float(value))


@pytest.mark.parametrize("count", range(1, 9))
def test_quantiles_are_numpys_at_every_length(count: int) -> None:
    found = compute_signals(DRAFT[:count])
    for name, q in (("q10", 0.10), ("q25", 0.25), ("median", 0.50)):
        assert found[name] == pytest.approx(np.quantile(LOGPROBS[:count], q))


@pytest.mark.parametrize("count", [1, 4, 5])
def test_a_draft_within_one_window_is_its_own_lowest(count: int) -> None:
    assert compute_signals(DRAFT[:count])["window_min"] == pytest.approx(np.mean(LOGPROBS[:count]))


def test_entropy_counts_the_rest_as_one_more_outcome() -> None:
    found = compute_signals(spread((0.5, 0.25), (0.9, 0.1)))
    whole, sure = entropy(0.5, 0.25, 0.25), entropy(0.9, 0.1)
    assert found["entropy_mean"] == pytest.approx((whole + sure) / 2)
    assert found["entropy_max"] == pytest.approx(whole)


def test_margins_are_best_minus_second_best() -> None:
    found = compute_signals(spread((0.5, 0.25, 0.1), (0.8, 0.1)))
    assert found["margin_mean"] == pytest.approx((log(2) + log(8)) / 2)
    assert found["margin_min"] == found["first_margin"] == pytest.approx(log(2))


@pytest.mark.parametrize(
    ("texts", "share"), [("abc", 0.0), ("abcd", 0.0), ("abcdabcd", 1 / 5), ("aaaaaaa", 3 / 4)]
)
def test_repetition_is_the_share_of_four_grams_seen_before(texts: str, share: float) -> None:
    assert compute_signals([token(text=text) for text in texts])["repetition"] == pytest.approx(share)


def test_the_answer_is_the_last_word_of_the_first_sentence() -> None:
    texts = ["It", " is", " To", "kyo", ".", " Not", " Rome", "."]
    top = [[logprob, logprob - number] for number, logprob in enumerate(LOGPROBS)]
    draft = [token(logprob, *each) for logprob, *each in zip(LOGPROBS, texts, top, strict=True)]
    found = compute_signals(draft)
    assert found["answer"] == pytest.approx(-0.3 - 5.0)
    assert found["answer_margin"] == pytest.approx(2.0)
    p = [exp(logprob) for logprob in top[2]]
    assert found["answer_entropy"] == pytest.approx(entropy(*p, 1.0 - sum(p)))
    assert found["stop"] == -0.2


def test_while_the_first_sentence_runs_its_last_word_so_far_is_the_answer() -> None:
    draft = [token(-0.3, "It"), token(-0.2, " is"), token(-0.7, " To"), token(-0.1, "kyo")]
    assert compute_signals(draft)["answer"] == pytest.approx(-0.8)
    assert compute_signals(draft[:2])["answer"] == -0.2
    assert compute_signals(draft)["stop"] == 0.0


@pytest.mark.parametrize(("texts", "share"), [("abcd", 1.0), ("abab", 0.5), ("aaaa", 0.25)])
def test_distinct_counts_different_tokens(texts: str, share: float) -> None:
    assert compute_signals([token(text=text) for text in texts])["distinct"] == share


@pytest.mark.parametrize(("finish", "value"), [("length", 1.0), ("stop", 0.0), (None, 0.0)])
def test_truncated_is_a_draft_cut_at_its_length(finish: str | None, value: float) -> None:
    assert compute_signals(DRAFT, finish)["truncated"] == value


@pytest.mark.parametrize("never", [-20.5, -9999.0, -1e9, -3.4e38, -inf])
def test_what_servers_call_never_is_the_floor(never: float) -> None:
    found = compute_signals([Token("a", never, (0.0, never))])
    assert found["min"] == found["mean"] == found["first"] == MIN_LOGPROB
    assert found["margin_min"] == -MIN_LOGPROB
    assert found["entropy_max"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("draft", "message"),
    [
        ([], "without tokens"),
        ([token(), token(None, top=(-0.1, -2.0))], "without its log-probability"),
        ([token(), token(top=())], "fewer than two"),
        ([token(top=(-0.1,))], "fewer than two"),
    ],
)
def test_a_draft_without_what_signals_need_is_an_error(draft: list[Token], message: str) -> None:
    with pytest.raises(MissingLogprobs, match=message):
        compute_signals(draft)


@given(DRAFTS, st.sampled_from(["stop", "length", None]))
def test_every_signal_is_finite_and_in_its_range(draft: list[Token], finish: str | None) -> None:
    found = compute_signals(draft, finish)
    assert all(isfinite(value) for value in found.values())
    for name in ("mean", "q10", "q25", "median", "min", "first", "window_min", "answer", "stop"):
        assert MIN_LOGPROB - 1e-9 <= found[name] <= 1e-9, name
    for name in ("margin_mean", "margin_min", "first_margin", "answer_margin"):
        assert 0.0 <= found[name] <= -MIN_LOGPROB, name
    assert 0.0 <= found["repetition"] < 1.0
    assert 0.0 < found["distinct"] <= 1.0
    assert -1e-12 <= found["entropy_mean"] <= found["entropy_max"] + 1e-9
    assert found["answer_entropy"] <= found["entropy_max"]


@given(DRAFTS)
def test_signals_are_in_order(draft: list[Token]) -> None:
    found = compute_signals(draft)
    assert found["min"] <= found["q10"] <= found["q25"] <= found["median"]
    assert found["min"] - 1e-9 <= found["window_min"] <= found["mean"] + 1e-9 or len(draft) > 5
    assert found["min"] - 1e-9 <= found["window_min"]
    assert found["margin_min"] <= found["margin_mean"] + 1e-9


@given(DRAFTS, st.randoms(use_true_random=False))
def test_statistics_of_single_tokens_do_not_depend_on_order(draft: list[Token], random: object) -> None:
    shuffled = list(draft)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    before, after = compute_signals(draft), compute_signals(shuffled)
    for name in ORDERLESS:
        assert after[name] == pytest.approx(before[name], abs=1e-9), name


@given(DRAFTS, ANY_TOKEN)
def test_one_more_token_moves_the_cheap_signals_one_way(draft: list[Token], more: Token) -> None:
    before, after = compute_signals(draft), compute_signals([*draft, more])
    assert (after["first"], after["first_margin"]) == (before["first"], before["first_margin"])
    assert after["min"] <= before["min"]
    assert after["margin_min"] <= before["margin_min"]
    assert after["entropy_max"] >= before["entropy_max"]
    assert after["log_length"] > before["log_length"]


@given(DRAFTS)
def test_only_the_equality_and_the_shape_of_texts_matter(draft: list[Token]) -> None:
    """Records without content keep no more of them."""
    numbered = [
        Token(build_stand_in(token_shape(each.text), sum(map(ord, each.text))), each.logprob, each.top)
        for each in draft
    ]
    assert compute_signals(numbered) == compute_signals(draft)


# --- reasoning

THOUGHTS = [each._replace(reasoning=True) for each in tokens(-1.0, -inf, -3.0, None)]


def test_reasoning_has_signals_of_its_own() -> None:
    found = compute_signals([*THOUGHTS, *DRAFT])
    assert found["reasoning_mean"] == pytest.approx((-1.0 + MIN_LOGPROB - 3.0 + MIN_LOGPROB) / 4)
    assert found["reasoning_min"] == MIN_LOGPROB
    assert found["reasoning_log_length"] == pytest.approx(log(5))


def test_without_reasoning_its_signals_are_zero() -> None:
    found = compute_signals(DRAFT)
    assert {name: found[name] for name in REASONING} == dict.fromkeys(REASONING, 0.0)


@given(DRAFTS, st.lists(ANY_LOGPROB | st.none(), max_size=20), st.randoms(use_true_random=False))
def test_the_other_signals_do_not_read_the_reasoning(
    draft: list[Token], thoughts: list[float | None], random: Any
) -> None:
    mixed: list[Token] = list(draft)
    for each in tokens(*thoughts):
        mixed.insert(random.randint(0, len(mixed)), each._replace(reasoning=True))
    found, plain = compute_signals(mixed), compute_signals(draft)
    assert all(found[name] == plain[name] for name in SIGNALS if name not in REASONING)
    assert MIN_LOGPROB <= found["reasoning_min"] <= found["reasoning_mean"] + 1e-9 <= 1e-9


def test_reasoning_alone_is_no_draft() -> None:
    with pytest.raises(MissingLogprobs, match="without tokens"):
        compute_signals(THOUGHTS)


def test_the_texts_are_the_answers() -> None:
    gathered = Signals()
    for each in (*THOUGHTS, *DRAFT[:2]):
        gathered.add(each)
    assert gathered.texts == ["t0", "t1"]
    gathered.compute()
    gathered.add(DRAFT[2])
    assert gathered.texts == ["t0", "t1", "t2"]


def test_a_probability_is_not_counted_twice_in_the_rest() -> None:
    top = [log(0.6), log(0.4)]
    assert compute_signals([token(top=top)])["entropy_max"] == pytest.approx(entropy(0.6, 0.4))
    assert sum(map(exp, top)) == pytest.approx(1.0)


@given(
    st.lists(
        st.tuples(
            st.floats(-30.0, allow_nan=False), st.lists(st.floats(allow_nan=False), min_size=2, max_size=5)
        ),
        min_size=1,
        max_size=20,
    ),
    st.booleans(),
)
def test_no_server_is_surer_than_certain(draft: list[tuple[float, list[float]]], thinks: bool) -> None:
    """A positive log-probability, which no probability has, counts as 0."""
    drafts = [
        [Token("a", 0.0, (0.0, -1.0), reasoning=True)] * thinks
        + [Token("b", bound(logprob), sorted(map(bound, top), reverse=True)) for logprob, top in draft]
        + [Token("c", bound(draft[0][0]), (), reasoning=True)]
        for bound in (lambda p: p, lambda p: min(p, 0.0))
    ]
    odd, usual = (compute_signals(tokens) for tokens in drafts)
    assert odd == usual
    assert all(map(isfinite, odd.values()))


@pytest.mark.parametrize(("logprob", "p"), [(0.0, 1.0), (1e308, 1.0), (-inf, 0.0), (log(0.25), 0.25)])
def test_a_probability_is_one_at_most(logprob: float, p: float) -> None:
    assert to_probability(logprob) == pytest.approx(p)
