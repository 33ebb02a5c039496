"""Selects rows of the catalog by what is asked of a model."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from .card import ModelCard

_UNITS = {"": 1, "m": 10**6, "b": 10**9}
_NOT_COMPARABLE = ("scores", "gguf", "layer_scaling")


class Criteria(NamedTuple):
    """What a model must be. None is no condition; texts match in any case of letters."""

    family: str | None = None
    attention: str | None = None
    paradigm: str | None = None
    domain: str | None = None
    licence: str | None = None
    technique: str | None = None
    min_parameters: int | None = None
    max_parameters: int | None = None
    min_context: int | None = None
    calls_tools: bool = False
    cells: tuple[tuple[str, str], ...] = ()
    """Names and values of further cells, each of which must be equal."""


def select_cards(cards: Iterable[ModelCard], criteria: Criteria) -> list[ModelCard]:
    """Return the rows that meet all criteria. A null cell meets none that asks for it."""
    return [card for card in cards if _meets(card, criteria)]


def parse_parameters(text: str) -> int:
    """Return the number that `3b`, `500m` or `1100000000` stands for. Raises ValueError for any other form."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mb]?)", text.strip().casefold())
    if not found:
        raise ValueError(f"{text!r} is no number of parameters: write for example 500m or 1.5b")
    return round(float(found[1]) * _UNITS[found[2]])


def parse_context(text: str) -> int:
    """Return the number that `32k` or `32768` stands for. Raises ValueError for any other form."""
    found = re.fullmatch(r"(\d+)(k?)", text.strip().casefold())
    if not found:
        raise ValueError(f"{text!r} is no number of tokens: write for example 8192 or 32k")
    return int(found[1]) * (1024 if found[2] else 1)


def parse_cell(text: str) -> tuple[str, str]:
    """Return the name and the value in `activation=relu2`. Raises ValueError if there is no such cell."""
    name, equals, value = text.partition("=")
    known = [cell for cell in ModelCard.model_fields if cell not in _NOT_COMPARABLE]
    if not equals or name not in known:
        raise ValueError(f"{text!r} is not of the form CELL=VALUE; cells: {', '.join(known)}")
    return name, value


def _meets(card: ModelCard, criteria: Criteria) -> bool:
    return (
        _equals(card.family, criteria.family)
        and _equals(card.attention, criteria.attention)
        and _contains([card.paradigm], criteria.paradigm)
        and _equals(card.domain, criteria.domain)
        and _contains([card.licence], criteria.licence)
        and _contains(card.techniques, criteria.technique)
        and (criteria.min_parameters is None or card.parameters >= criteria.min_parameters)
        and (criteria.max_parameters is None or card.parameters <= criteria.max_parameters)
        and (criteria.min_context is None or (card.context or 0) >= criteria.min_context)
        and (not criteria.calls_tools or card.tool_parser is not None)
        and all(_has_cell(card, name, value) for name, value in criteria.cells)
    )


def _equals(value: str | None, wanted: str | None) -> bool:
    return wanted is None or (value is not None and value.casefold() == wanted.casefold())


def _contains(values: Iterable[str], wanted: str | None) -> bool:
    return wanted is None or any(wanted.casefold() in value.casefold() for value in values)


def _has_cell(card: ModelCard, name: str, wanted: str) -> bool:
    value = getattr(card, name)
    values = value if isinstance(value, tuple) else (value,)
    names = {True: "true", False: "false", None: "null"}
    texts = [names[entry] if isinstance(entry, bool | None) else str(entry) for entry in values]
    return wanted.casefold() in (text.casefold() for text in texts)
