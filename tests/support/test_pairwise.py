"""Parametrisation by pairs leaves no pair out."""

from itertools import combinations, product

import pytest
from support.pairwise import pairwise


@pytest.mark.parametrize("sizes", [(3,), (4, 2), (3, 4, 1, 2, 2), (1, 1), (6, 2, 2, 2, 2)])
def test_every_two_values_meet(sizes: tuple[int, ...]):
    rows = pairwise(*sizes)
    for (one, size), (other, size_of_other) in combinations(enumerate(sizes), 2):
        assert {(row[one], row[other]) for row in rows} == set(product(range(size), range(size_of_other)))
    for place, size in enumerate(sizes):
        assert {row[place] for row in rows} == set(range(size))
    assert len(rows) == len(set(rows))


def test_two_factors_are_crossed_and_more_are_not():
    assert len(pairwise(4, 2)) == 8
    assert len(pairwise(4, 2, 2, 2)) == 8
