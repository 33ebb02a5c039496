"""How the pair's gain over random escalation is computed, on answers made by hand."""

import numpy as np
import pytest

from benchmarks.pair import Answers, gain, measured


def answers(
    confidence: list[float], small: list[int], large: list[int], kinds: list[str] | None = None
) -> Answers:
    columns = (np.array(column, dtype=float) for column in (confidence, small, large))
    return Answers(np.array(kinds or ["one"] * len(small)), *columns)


def test_escalating_exactly_what_is_wrong_gains_what_chance_misses():
    """Half is wrong, half is sent: all right instead of three quarters."""
    assert gain(answers([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], [1, 1, 1, 1]), 0.5) == pytest.approx(0.25)


def test_a_confidence_that_says_nothing_gains_nothing():
    assert gain(answers([0.5] * 4, [0, 1, 0, 1], [1, 1, 1, 1]), 0.3) == pytest.approx(0.0)


def test_the_interval_keeps_as_many_of_each_kind_as_were_drawn():
    """Sums are wrong, opposites right and the confidence knows which: there is no chance left in it."""
    sure = answers([0.1] * 6 + [0.9] * 6, [0] * 6 + [1] * 6, [1] * 12, ["sums"] * 6 + ["opposites"] * 6)
    assert measured(sure)["share_50"]["gain"] == [0.25, 0.25, 0.25]


def test_within_a_kind_items_are_drawn_anew():
    low, high = measured(answers([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], [1, 1, 1, 1]))["share_50"]["gain"][1:]
    assert low < 0.25 <= high


def test_a_sample_has_as_many_of_each_kind():
    many = answers([0.5] * 12, [0, 1] * 6, [1] * 12, ["sums"] * 6 + ["opposites"] * 6)
    drawn = many.sampled(np.random.default_rng(0), 6)
    assert sorted(drawn.kinds) == ["opposites"] * 3 + ["sums"] * 3
