"""Dollars, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from routers.cost import FREE, Bracket, Price, compute_cost, llm_alone_cost
from routers.plan import Usage

PRICE = Price(input=2.0, output=8.0, cached_input=0.5)
COUNT = st.integers(0, 10**7)
DOLLARS = st.floats(0.0, 1000.0)


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(), 0.0),
        (Usage(1_000_000, 0), 2.0),
        (Usage(0, 1_000_000), 8.0),
        (Usage(1_000_000, 500_000), 6.0),
        (Usage(1_000_000, 0, cached_tokens=400_000), 0.6 * 2.0 + 0.4 * 0.5),
        (Usage(1_000_000, 0, cached_tokens=2_000_000), 0.5),
    ],
    ids=["nothing", "input", "output", "both", "part cached", "no more is cached than was sent"],
)
def test_a_call_costs_its_tokens(usage: Usage, dollars: float) -> None:
    assert compute_cost(usage, PRICE) == pytest.approx(dollars)


def test_cached_tokens_cost_as_others_where_no_rate_is_given() -> None:
    assert compute_cost(Usage(1_000_000, cached_tokens=400_000), Price(input=2.0)) == pytest.approx(2.0)


def test_cached_tokens_may_be_free() -> None:
    assert compute_cost(Usage(10, cached_tokens=10), Price(input=2.0, cached_input=0.0)) == 0.0


def test_a_machine_costs_its_time_and_nothing_else() -> None:
    assert compute_cost(Usage(10, 10), Price(per_hour=3.6), seconds=10.0) == pytest.approx(0.01)


def test_time_is_free_where_no_hour_has_a_price() -> None:
    assert compute_cost(Usage(10, 10), FREE, seconds=1e6) == 0.0


BRACKETS = (Bracket(start=1000, input=2.0, output=20.0), Bracket(start=2000, input=3.0, cached_input=1.0))


@pytest.mark.parametrize("brackets", [BRACKETS, BRACKETS[::-1]], ids=["ascending", "descending"])
@pytest.mark.parametrize(
    ("prompt", "rate", "output"), [(999, 1.0, 10.0), (1000, 2.0, 20.0), (1999, 2.0, 20.0), (2000, 3.0, 0.0)]
)
def test_the_highest_bracket_a_prompt_reaches_prices_the_whole_call(
    brackets: tuple[Bracket, ...], prompt: int, rate: float, output: float
) -> None:
    price = Price(input=1.0, output=10.0, brackets=brackets)
    assert compute_cost(Usage(prompt, 100), price) == pytest.approx((prompt * rate + 100 * output) / 1e6)


def test_a_bracket_has_a_rate_for_cached_tokens_of_its_own() -> None:
    price = Price(input=1.0, cached_input=0.1, brackets=BRACKETS)
    assert compute_cost(Usage(1500, cached_tokens=500), price) == pytest.approx(1500 * 2.0 / 1e6)
    assert compute_cost(Usage(2500, cached_tokens=500), price) == pytest.approx(
        (2000 * 3.0 + 500 * 1.0) / 1e6
    )


def test_a_bracket_keeps_the_price_of_time() -> None:
    price = Price(per_hour=36.0, brackets=(Bracket(start=1),))
    assert compute_cost(Usage(10), price, seconds=100.0) == pytest.approx(1.0)


def test_the_llm_alone_writes_its_ratio_of_the_served_tokens() -> None:
    assert llm_alone_cost(1000, 100, 1.5, PRICE) == pytest.approx((1000 * 2.0 + 150 * 8.0) / 1e6)


@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf")])
def test_a_rate_is_a_number_of_dollars(rate: float) -> None:
    with pytest.raises(ValidationError):
        Price(input=rate)


def test_a_price_as_plain_values_is_the_same_price() -> None:
    price = Price(input=1.0, per_hour=2.0, brackets=BRACKETS)
    assert Price.model_validate(price.fields) == price


@given(COUNT, COUNT, COUNT, COUNT, DOLLARS, DOLLARS)
def test_more_tokens_never_cost_less(
    prompt: int, completion: int, more: int, longer: int, rate: float, out: float
) -> None:
    price = Price(input=rate, output=out)
    less = compute_cost(Usage(prompt, completion), price)
    assert 0.0 <= less <= compute_cost(Usage(prompt + more, completion + longer), price)


@given(COUNT, COUNT, COUNT)
def test_the_cache_never_makes_a_call_dearer(prompt: int, completion: int, cached: int) -> None:
    assert compute_cost(Usage(prompt, completion, cached), PRICE) <= compute_cost(
        Usage(prompt, completion), PRICE
    )
