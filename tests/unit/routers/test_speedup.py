"""The model of speculation: by hand, by brute force, and against games of chance."""

from random import Random
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routers.cost import Price
from routers.fragments.speedup import (
    MAX_BLOCK,
    Costs,
    best_block,
    break_even,
    estimate_acceptance,
    expected_tokens,
    forecast,
    in_engine_speedup,
    is_worthwhile,
)

# A target of 15 tokens a second, read at 2000, and a draft of 60, with priced calls.
COSTS = Costs(
    decode_token=1 / 15,
    verify_call=0.02,
    verify_token=1 / 2000,
    draft_call=0.01,
    draft_token=1 / 60,
    llm=Price(input=0.5, output=1.5),
)
ACCEPT = st.floats(0.0, 1.0)
SECONDS = st.floats(1e-5, 1.0)
ANY_COSTS = st.tuples(*[SECONDS] * 6).map(lambda seconds: Costs(*seconds))
LENGTH = st.integers(0, 5000)
BLOCK = st.integers(1, 40)


@pytest.mark.parametrize(
    ("accept", "block", "tokens"), [(0.0, 8, 1.0), (1.0, 8, 9.0), (0.5, 2, 1.75), (0.7, 0, 1.0)]
)
def test_a_block_gives_the_tokens_before_the_first_rejection_and_one_more(
    accept: float, block: int, tokens: float
) -> None:
    assert expected_tokens(accept, block) == pytest.approx(tokens)


@given(st.floats(0.0, 0.999), BLOCK)
def test_expected_tokens_are_those_of_the_paper(accept: float, block: int) -> None:
    assert expected_tokens(accept, block) == pytest.approx((1 - accept ** (block + 1)) / (1 - accept))


@given(ACCEPT, ACCEPT, BLOCK)
def test_more_acceptance_never_gives_fewer_tokens(one: float, other: float, block: int) -> None:
    low, high = sorted((one, other))
    assert expected_tokens(low, block) <= expected_tokens(high, block)
    assert expected_tokens(low, block) <= expected_tokens(low, block + 1)


def test_a_free_draft_inside_an_engine_gains_all_its_tokens() -> None:
    assert in_engine_speedup(0.8, 4, cost_ratio=0.0) == pytest.approx(expected_tokens(0.8, 4))


def test_a_draft_as_slow_as_its_target_gains_nothing_inside_an_engine() -> None:
    assert in_engine_speedup(1.0, 4, cost_ratio=1.0) == pytest.approx(1.0)
    assert in_engine_speedup(0.8, 4, cost_ratio=1.0) < 1.0


def tokens_per_second(accept: float, costs: Costs, length: int, block: int) -> float:
    return expected_tokens(accept, block) / (costs.draft_seconds(block) + costs.verify_seconds(length, block))


@given(ACCEPT, ANY_COSTS, LENGTH, BLOCK)
def test_the_best_block_is_the_one_that_trying_all_finds(
    accept: float, costs: Costs, length: int, most: int
) -> None:
    block = best_block(accept, costs, length, most)
    rates = [tokens_per_second(accept, costs, length, tried) for tried in range(1, most + 1)]
    assert 1 <= block <= most
    assert rates[block - 1] == pytest.approx(max(rates), rel=1e-9)


def test_what_is_always_rejected_is_drafted_shortest_and_what_never_is_longest() -> None:
    assert best_block(0.0, COSTS, 700, max_block=32) == 1
    assert best_block(1.0, COSTS, 700, max_block=32) == 32


@given(ACCEPT, ANY_COSTS, LENGTH)
def test_a_longer_text_before_it_never_makes_the_best_block_shorter(
    accept: float, costs: Costs, length: int
) -> None:
    assert best_block(accept, costs, length) <= best_block(accept, costs, length + 500)


@given(ACCEPT, ANY_COSTS, LENGTH)
def test_it_pays_where_some_block_outruns_plain_decoding(accept: float, costs: Costs, length: int) -> None:
    fastest = max(tokens_per_second(accept, costs, length, block) for block in range(1, MAX_BLOCK + 1))
    plain = 1.0 / costs.decode_token
    assert is_worthwhile(accept, costs, length) is (fastest > plain) or fastest == pytest.approx(
        plain, rel=1e-9
    )


def test_long_prompts_make_it_stop_paying() -> None:
    assert is_worthwhile(0.8, COSTS, length=100)
    assert not is_worthwhile(0.8, COSTS, length=4000)


@given(ANY_COSTS, LENGTH, st.integers(1, 60), BLOCK)
def test_a_draft_that_is_never_accepted_costs_a_call_a_token(
    costs: Costs, prompt: int, answer: int, block: int
) -> None:
    found = forecast(0.0, costs, prompt, answer, block)
    assert found.calls == pytest.approx(answer)
    assert found.steps_saved == pytest.approx(0.0)
    assert found.speedup < 1.0 or costs.verify_seconds(prompt, 0) < costs.decode_token


def test_a_draft_that_is_always_accepted_costs_a_call_a_block() -> None:
    found = forecast(1.0, COSTS, prompt=100, answer=12, block=5)
    assert found.calls == pytest.approx(2.0)  # 5 + 1, 5 + 1
    assert found.drafted == pytest.approx(10.0)
    assert found.verified == pytest.approx(105 + 111)
    assert found.seconds == pytest.approx(2 * 0.03 + 10 / 60 + 216 / 2000)
    assert found.dollars == pytest.approx((216 * 0.5 + 2 * 1.5) / 1e6)
    assert found.alone_seconds == pytest.approx(0.02 + 100 / 2000 + 11 / 15)
    assert found.alone_dollars == pytest.approx((100 * 0.5 + 12 * 1.5) / 1e6)
    assert found.steps_saved == pytest.approx(1 - 2 / 12)
    assert found.speedup == pytest.approx(found.alone_seconds / found.seconds)


def test_one_token_is_one_verification() -> None:
    found = forecast(0.7, COSTS, prompt=100, answer=1)
    assert (found.calls, found.drafted, found.verified) == (1.0, 0.0, 100.0)


def test_the_small_models_prompt_is_read_once_and_its_cache_is_priced_so() -> None:
    priced = COSTS._replace(draft_prefill=0.01, slm=Price(input=2.0, cached_input=1.0, per_hour=3600.0))
    plain, found = (forecast(1.0, costs, 100, 12, 5) for costs in (COSTS, priced))
    assert found.seconds == pytest.approx(plain.seconds + 1.0)
    drafting = 1.0 + 2 * 0.01 + 10 / 60
    assert found.dollars - plain.dollars == pytest.approx(drafting + (100 * 2.0 + 105 * 1.0 + 1 * 2.0) / 1e6)


@given(ACCEPT, ACCEPT, st.integers(0, 500), st.integers(1, 80), BLOCK)
def test_more_acceptance_never_makes_an_answer_later_or_dearer(
    one: float, other: float, prompt: int, answer: int, block: int
) -> None:
    low, high = (forecast(accept, COSTS, prompt, answer, block) for accept in sorted((one, other)))
    assert high.calls <= low.calls + 1e-9
    assert high.seconds <= low.seconds + 1e-9
    assert high.dollars <= low.dollars + 1e-12
    assert high.inside >= low.inside - 1e-9


def game(random: Random, accept: float, costs: Costs, prompt: int, answer: int, block: int) -> float:
    """The seconds of one answer, played out token by token."""
    written, seconds = 0, 0.0
    while written < answer:
        drafted = min(block, answer - written - 1)
        seconds += costs.draft_call + drafted * costs.draft_token
        seconds += costs.verify_call + (prompt + written + drafted) * costs.verify_token
        accepted = 0
        while accepted < drafted and random.random() < accept:
            accepted += 1
        written += accepted + 1
    return seconds


@pytest.mark.parametrize("accept", [0.0, 0.3, 0.7, 0.95, 1.0])
@pytest.mark.parametrize("block", [1, 5, 16])
def test_a_forecast_is_the_mean_of_games_of_chance(accept: float, block: int) -> None:
    random = Random(7)
    games = [game(random, accept, COSTS, 300, 80, block) for _ in range(500)]
    error = stdev(games) / len(games) ** 0.5
    expected = forecast(accept, COSTS, 300, 80, block).seconds
    assert abs(fmean(games) - expected) <= 4 * error + 1e-9  # four standard errors: one run in 16,000 misses


def test_a_forecast_with_the_best_blocks_is_not_beaten_by_any_fixed_one() -> None:
    best = forecast(0.8, COSTS, 300, 200).seconds
    assert best <= min(forecast(0.8, COSTS, 300, 200, block).seconds for block in range(1, 30)) * 1.01


def test_acceptance_counts_only_tokens_that_were_tried() -> None:
    random = Random(11)
    accepted = rejected = 0
    for _ in range(4000):
        for _ in range(8):
            if random.random() >= 0.6:
                rejected += 1
                break
            accepted += 1
    assert estimate_acceptance(accepted, rejected) == pytest.approx(0.6, abs=0.02)
    assert estimate_acceptance(0, 0) is None


def test_the_break_even_is_where_the_speedup_passes_one() -> None:
    assert break_even(lambda accept: 2 * accept) == pytest.approx(0.5)
    assert break_even(lambda accept: 1.5 + accept) == 0.0
    assert break_even(lambda accept: 0.5 * accept) is None
