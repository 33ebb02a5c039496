"""The order in which items are drafted, so that a collection may stop early."""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from typing import TypeVar

from policies.tuning.starter_set import Item

SEED = 20261130
Any_ = TypeVar("Any_")


def stratify(items: Iterable[Item]) -> list[Item]:
    """Return the items in an order in which each beginning is a stratified sample.

    Kinds alternate. Within a kind, each template comes once before one comes twice, and the templates of both splits
    are mixed. The order depends on the items alone."""
    by_kind: dict[str, dict[str, list[Item]]] = defaultdict(lambda: defaultdict(list))
    for item in sorted(items, key=lambda item: item.id):
        by_kind[item.kind][item.template].append(item)
    return _alternate([_order_kind(by_kind[kind]) for kind in sorted(by_kind)])


def _order_kind(by_template: dict[str, list[Item]]) -> list[Item]:
    rng = random.Random(SEED)  # noqa: S311  a fixed order, no secret
    templates = [rng.sample(of_template, len(of_template)) for of_template in by_template.values()]
    rng.shuffle(templates)
    return _alternate(templates)


def _alternate(lists: Sequence[Sequence[Any_]]) -> list[Any_]:
    """Return the first of each list, then the second of each, and so on."""
    nothing = object()
    rounds = chain.from_iterable(zip_longest(*lists, fillvalue=nothing))
    return [item for item in rounds if item is not nothing]  # type: ignore[misc]
