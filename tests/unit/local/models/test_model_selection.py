"""Which rows of the catalog meet what is asked for."""

from collections.abc import Callable

import pytest

from gateway.local.models.catalog import ModelCatalog
from gateway.local.models.selection import (
    Criteria,
    parse_cell,
    parse_context,
    parse_parameters,
    select_cards,
)

CARDS = ModelCatalog.load().cards


@pytest.mark.parametrize(
    ("criteria", "names"),
    [
        (Criteria(attention="MLA"), ["minicpm3-4b"]),
        (Criteria(family="xglm", max_parameters=2 * 10**9), ["xglm-564m", "xglm-1.7b"]),
        (Criteria(paradigm="pruned", max_parameters=4 * 10**9), ["minima-3b"]),
        (Criteria(family="Qwen3.5", min_parameters=4 * 10**9, calls_tools=True), ["qwen3.5-4b", "qwen3.5-9b"]),
        (Criteria(licence="rail", technique="MULTITASK"), ["bloomz-560m", "bloomz-1b1"]),
        (Criteria(domain="science", max_parameters=10**9), ["galactica-125m"]),
        (Criteria(cells=(("activation", "relu2"),)), ["minitron-4b-base"]),
        (Criteria(cells=(("shared_embeddings", "true"), ("layers", "62"))), ["minicpm3-4b"]),
        (Criteria(cells=(("heads", "null"), ("family", "Rene"))), ["rene-v0.1-1.3b"]),
        (Criteria(cells=(("techniques", "apo"),)), ["smollm3-3b"]),
    ],
)  # fmt: skip
def test_rows_meet_all_criteria(criteria: Criteria, names: list[str]) -> None:
    assert [card.name for card in select_cards(CARDS, criteria)] == names


def test_no_criterion_selects_all_and_a_null_cell_meets_none() -> None:
    assert select_cards(CARDS, Criteria()) == list(CARDS)
    assert "rene-v0.1-1.3b" not in [card.name for card in select_cards(CARDS, Criteria(min_context=1))]


@pytest.mark.parametrize(
    ("text", "number"), [("3b", 3 * 10**9), ("1.5B", 1_500_000_000), ("500m", 500_000_000), ("7", 7)]
)
def test_numbers_of_parameters_have_units(text: str, number: int) -> None:
    assert parse_parameters(text) == number


@pytest.mark.parametrize(("text", "number"), [("8192", 8192), ("32k", 32_768), ("32K", 32_768)])
def test_contexts_are_in_tokens_or_in_units_of_1024(text: str, number: int) -> None:
    assert parse_context(text) == number


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_parameters, "3x", "write for example 500m or 1.5b"),
        (parse_parameters, "", "no number of parameters"),
        (parse_context, "8kb", "write for example 8192 or 32k"),
        (parse_cell, "colour=red", "cells: name, aliases"),
        (parse_cell, "activation", "CELL=VALUE"),
    ],
)
def test_what_cannot_be_read_is_an_error_with_an_example(
    parse: Callable[[str], object], text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)
