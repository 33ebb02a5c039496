"""The catalog of small models -> Markdown."""

from gateway.local.models.card import ModelCard
from gateway.local.models.catalog import ModelCatalog
from tools.docs.table import code, table


def catalog_table() -> str:
    """A row for each family, with its models from small to large."""
    catalog = ModelCatalog.load()
    rows = [_family_row(catalog.list_family(family)) for family in catalog.list_families()]
    return table(["family", "attention", "released", "licence", "models"], rows)


def _family_row(cards: tuple[ModelCard, ...]) -> list[str]:
    attention = dict.fromkeys(card.attention or "not known" for card in cards)
    licences = dict.fromkeys(card.licence for card in cards)
    names = [card.name for card in sorted(cards, key=lambda card: card.parameters)]
    return [
        cards[0].family,
        ", ".join(attention),
        min(card.released for card in cards),
        ", ".join(licences),
        ", ".join(map(code, names)),
    ]
