"""The labelled set of the guard's benchmark, and what is reported of it."""

from collections import Counter

import pytest

from benchmarks.guard import items, report
from policies.tuning import report as intervals


def test_as_many_items_are_harmful_as_are_not_and_none_stands_twice() -> None:
    counts = Counter((item.part, item.harmful) for item in items())
    assert counts == {("input", True): 60, ("input", False): 60, ("output", True): 30, ("output", False): 30}
    assert len(set(items())) == 180
    assert all(bool(item.answer) == (item.part == "output") for item in items())


def test_a_judge_that_knows_and_one_that_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 20)
    found = [item for item in items(10) if item.part == "input"]
    knows = report([(item, 0.9 if item.harmful else 0.1) for item in found], 2.0)
    assert (knows["auroc"], knows["better_than_chance"]) == ([1.0, 1.0, 1.0], True)
    assert (knows["flagged_harmful"], knows["flagged_harmless"], knows["milliseconds"]) == (1.0, 0.0, 100)
    guesses = report([(item, None) for item in found], 2.0)
    assert (guesses["auroc"][0], guesses["better_than_chance"], guesses["unread"]) == (0.5, False, 20)
