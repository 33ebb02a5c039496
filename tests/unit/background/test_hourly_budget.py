"""What background work may spend in an hour, on a clock that a test sets."""

from gateway.background.hourly_budget import HOUR_S, HourlyBudget


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_hour_after_its_first_dollars_a_policy_has_its_dollars_again():
    clock = Clock()
    hourly = HourlyBudget(clock)
    hourly.spend("one", 0.5)
    clock.now += HOUR_S / 2
    assert hourly.can_spend("one", 1.0)
    hourly.spend("one", 0.5)
    assert not hourly.can_spend("one", 1.0)
    clock.now += HOUR_S / 2 - 0.001
    assert not hourly.can_spend("one", 1.0)
    clock.now += 0.001
    assert hourly.can_spend("one", 1.0)


def test_the_next_hour_begins_with_what_is_spent_next():
    clock = Clock()
    hourly = HourlyBudget(clock)
    hourly.spend("one", 1.0)
    clock.now += 1.5 * HOUR_S
    assert hourly.can_spend("one", 1.0)
    hourly.spend("one", 1.0)
    assert not hourly.can_spend("one", 1.0)
    clock.now += 0.9 * HOUR_S
    assert not hourly.can_spend("one", 1.0)
    clock.now += 0.1 * HOUR_S
    assert hourly.can_spend("one", 1.0)


def test_dollars_of_work_that_ends_in_the_next_hour_count_for_that_hour():
    clock = Clock()
    hourly = HourlyBudget(clock)
    hourly.spend("one", 0.5)
    clock.now += HOUR_S
    hourly.spend("one", 1.0)
    assert not hourly.can_spend("one", 1.0)
    clock.now += HOUR_S - 0.001
    assert not hourly.can_spend("one", 1.0)


def test_policies_spend_apart_and_one_without_a_limit_affords_all():
    hourly = HourlyBudget(Clock())
    hourly.spend("one", 9.0)
    assert not hourly.can_spend("one", 1.0)
    assert hourly.can_spend("two", 1.0)
    assert hourly.can_spend("one", None)
