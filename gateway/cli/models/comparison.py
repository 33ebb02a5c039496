"""Compares models cell by cell."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Column, Table
from rich.text import Text

from gateway.local.models.card import ModelCard

from .cells import NOT_COMPARED, iterate_cells


class ComparedCell(NamedTuple):
    """One property of all models, in their order; empty where it is null."""

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1


def compare_cards(cards: Sequence[ModelCard]) -> list[ComparedCell]:
    """Return each property that one of the models has, in the order of the schema."""
    columns = [dict(iterate_cells(card)) for card in cards]
    names = dict.fromkeys(name for column in columns for name in column if name not in NOT_COMPARED)
    compared = [ComparedCell(name, tuple(column.get(name, "") for column in columns)) for name in names]
    return [cell for cell in compared if any(cell.values)]


def draw_table(cards: Sequence[ModelCard], cells: Sequence[ComparedCell]) -> Table:
    """Return a table with a column for each model; rows that differ begin with ≠, and unverified cells end with ?."""
    heads = ("", "property", *(card.name for card in cards))
    table = Table(*(Column(head, overflow="fold") for head in heads), box=None, pad_edge=False)
    for cell in cells:
        values = [
            f"{value} ?" if cell.name in card.unverified else value or "-"
            for card, value in zip(cards, cell.values, strict=True)
        ]
        mark, style = ("≠", "bold") if cell.differs else ("", "")
        table.add_row(mark, *map(Text, (cell.name, *values)), style=style)
    return table
