"""What background work may spend in an hour, on a clock that a test sets."""

from gateway.background.hourly_budget import HOUR, Hourly


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_hour_after_its_first_dollars_a_policy_has_its_dollars_again():
    clock = Clock()
    hourly = Hourly(clock)
    hourly.spend("one", 0.5)
    clock.now += HOUR / 2
    assert hourly.affords("one", 1.0)
    hourly.spend("one", 0.5)
    assert not hourly.affords("one", 1.0)
    clock.now += HOUR / 2 - 0.001
    assert not hourly.affords("one", 1.0)
    clock.now += 0.001
    assert hourly.affords("one", 1.0)


def test_the_next_hour_begins_with_what_is_spent_next():
    clock = Clock()
    hourly = Hourly(clock)
    hourly.spend("one", 1.0)
    clock.now += 1.5 * HOUR
    assert hourly.affords("one", 1.0)
    hourly.spend("one", 1.0)
    assert not hourly.affords("one", 1.0)
    clock.now += 0.9 * HOUR
    assert not hourly.affords("one", 1.0)
    clock.now += 0.1 * HOUR
    assert hourly.affords("one", 1.0)


def test_policies_spend_apart_and_one_without_a_limit_affords_all():
    hourly = Hourly(Clock())
    hourly.spend("one", 9.0)
    assert not hourly.affords("one", 1.0)
    assert hourly.affords("two", 1.0)
    assert hourly.affords("one", None)
