"""Cells of the catalog as text."""

from collections.abc import Iterator
from typing import Any

from gateway.local.models.card import GgufReference, LayerScaling, ModelCard

NOT_COMPARED = ("name", "aliases", "sources", "unverified", "note", "count_exception")
_SCALED = ("parameters", "training_tokens")


def iterate_cells(card: ModelCard) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each cell, in the order of the schema; a null cell's text is empty."""
    for name in type(card).model_fields:
        value = getattr(card, name)
        if name == "scores":
            yield from iterate_scores(card)
        elif isinstance(value, LayerScaling):
            yield name, "; ".join(f"{key}: {_format_range(sizes)}" for key, sizes in value if sizes)
        else:
            yield name, format_cell(name, value)


def iterate_scores(card: ModelCard) -> Iterator[tuple[str, str]]:
    for source, values in card.scores.items():
        for benchmark, value in values.items():
            yield f"{benchmark} ({source})", f"{value:g}"


def format_cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, GgufReference):
        place = value.repository or f"{value.package} {value.member}"
        return f"{place} ({value.quantisation})"
    return format_amount(value) if name in _SCALED else str(value)


def format_amount(number: int) -> str:
    """Return a large number with three digits and a unit: 1.24B, 135M."""
    for size, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def _format_range(sizes: tuple[int, ...]) -> str:
    return f"{min(sizes)} to {max(sizes)}"
