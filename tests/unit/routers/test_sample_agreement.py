"""What makes two answers the same: their words, or their last number."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.judges.agreement import (
    last_number,
    mean_agreement,
    normalize_words,
    number_agreement,
    text_agreement,
)


@pytest.mark.parametrize(
    ("one", "other", "agreed"),
    [
        ("Paris", "paris.", 1.0),
        ("The Eiffel Tower!", "an eiffel tower", 1.0),
        ("It is 1,000.50 dollars", "it is 1000.5 Dollars", 1.0),
        ("Don’t", "don't", 1.0),
        ("-5", "5", 0.0),
        ("Paris, France", "Paris", 2 / 3),
        ("Paris", "Rome", 0.0),
        ("Paris", "", 0.0),
        ("...", "!!!", 0.0),
        ("Straße", "STRASSE", 1.0),
        ("東京", "東京。", 1.0),
    ],
)
def test_texts_agree_by_their_words(one: str, other: str, agreed: float) -> None:
    assert text_agreement(one, other) == pytest.approx(agreed)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3 + 4 = 7.", "7"),
        ("so it costs $18.00", "18"),
        ("1,234,567 people", "1234567"),
        ("it was -12 degrees", "-12"),
        ("7-5", "5"),
        ("−3", "-3"),
        ("version 1.2.", "1.2"),
        ("none at all", None),
        ("9" * 50, None),
    ],
)
def test_the_last_number_is_what_an_answer_comes_to(text: str, number: str | None) -> None:
    assert last_number(text) == (None if number is None else Decimal(number))


def test_answers_without_numbers_agree_in_none() -> None:
    assert number_agreement("seven", "seven") == 0.0
    assert number_agreement("the sum is 12", "6 + 6 = 12") == 1.0


def test_agreement_is_the_mean_over_the_samples() -> None:
    assert mean_agreement("number", "12", ["it is 12", "13", "", "6 * 2 = 12"]) == 0.5
    assert mean_agreement("text", "Paris", ["Paris!", "Rome"]) == 0.5


@settings(max_examples=50, deadline=None)
@given(st.text(), st.text())
def test_any_text_can_be_compared(one: Any, other: Any) -> None:
    assert text_agreement(one, one) == float(bool(normalize_words(one)))
    assert text_agreement(one, other) == text_agreement(other, one)
    assert 0.0 <= text_agreement(one, other) <= 1.0
    last_number(one)
