"""A split sends each key one way, and many keys in proportion."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from policies.schema.split import Division, Split


def split(**between: float) -> Split:
    return Split(name="canary", description="x", split=Division(between=between))


@given(st.text(), st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=5))
def test_a_key_goes_to_one_of_the_policies_and_always_the_same(key: str, shares: list[float]) -> None:
    divided = split(**{f"p{number}": share for number, share in enumerate(shares)})
    chosen = divided.choose(key)
    assert chosen in divided.split.between
    assert divided.choose(key) == chosen


def test_many_keys_are_divided_by_the_shares() -> None:
    divided = split(auto=90, careful=10)
    counts = Counter(divided.choose(f"user-{number}") for number in range(5000))
    assert counts["careful"] / 5000 == pytest.approx(0.1, abs=0.02)


def test_a_canary_that_grows_keeps_those_it_had() -> None:
    small, large = split(canary=5, auto=95), split(canary=30, auto=70)
    keys = [f"user-{number}" for number in range(500)]
    had = {key for key in keys if small.choose(key) == "canary"}
    assert had
    assert had <= {key for key in keys if large.choose(key) == "canary"}


@pytest.mark.parametrize("between", [{}, {"auto": 1}, {"auto": 1, "careful": 0}, {"auto": 1, "careful": -1}])
def test_fewer_than_two_policies_or_a_share_of_nothing_is_refused(between: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Division(between=between)
