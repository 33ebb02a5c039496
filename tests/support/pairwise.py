"""Parametrisation by pairs: each value of one factor meets each value of every other, without the full cross."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Any

import pytest

Place = tuple[int, int]
"""A factor's place among the factors, and a value's among its values."""


def pairwise(*sizes: int) -> list[tuple[int, ...]]:
    """Rows of one place per factor, given how many values each factor has, in which every two values of different
    factors stand together at least once; of one factor, all its values."""
    crossed = list(product(*map(range, sizes)))
    missing = {pair for row in crossed for pair in _pairs(row)}
    rows = []
    while missing:
        row = max(crossed, key=lambda row: len(missing.intersection(_pairs(row))))
        missing.difference_update(_pairs(row))
        rows.append(row)
    return sorted(rows)


def _pairs(row: Sequence[int]) -> Iterator[tuple[Place, ...]]:
    return combinations(enumerate(row), min(2, len(row)))


def every_pair(
    *, indirect: Sequence[str] = (), **factors: Mapping[str, Any] | Collection[str]
) -> pytest.MarkDecorator:
    """Parametrises a test by rows of its arguments, `factors`: each a mapping of ids to values, or ids that are the
    values themselves. `indirect` names those that are fixtures' parameters."""
    named = [
        factor if isinstance(factor, Mapping) else {id_: id_ for id_ in factor} for factor in factors.values()
    ]
    parts = [list(factor.items()) for factor in named]
    rows = [
        [part[place] for part, place in zip(parts, row, strict=True)] for row in pairwise(*map(len, parts))
    ]
    return pytest.mark.parametrize(
        tuple(factors),
        [
            pytest.param(*(value for _, value in row), id="-".join(id_ for id_, _ in row if id_))
            for row in rows
        ],
        indirect=list(indirect),
    )
