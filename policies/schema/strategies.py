"""The strategies that a policy's `router.kind` may name.

They are the routers in the package `routers.strategies`, and those that installed packages offer under the
entry point `smallfirst.routers`. To add a strategy, add a file.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from functools import reduce
from importlib.metadata import entry_points
from operator import or_
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from routers import strategies
from routers.router import Router

ENTRY_POINT_GROUP = "smallfirst.routers"


def _import_modules() -> Iterator[ModuleType]:
    for module in pkgutil.iter_modules(strategies.__path__, "routers.strategies."):
        yield importlib.import_module(module.name)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        yield importlib.import_module(point.module)


def _collect_strategies() -> dict[str, type[Router]]:
    """Return the router classes by kind. Raises ValueError if two routers share a kind."""
    by_kind: dict[str, type[Router]] = {}
    for module in _import_modules():
        for value in vars(module).values():
            if not (
                isinstance(value, type) and issubclass(value, Router) and value.__module__ == module.__name__
            ):
                continue
            if (kind := value.model_fields["kind"]).is_required():
                continue  # an abstract class that several strategies share
            if kind.default in by_kind:
                raise ValueError(f"router.kind {kind.default}: {module.__name__} and another offer it")
            by_kind[kind.default] = value
    return dict(sorted(by_kind.items()))


STRATEGIES = _collect_strategies()

if TYPE_CHECKING:
    AnyRouter = Router
else:
    AnyRouter = Annotated[reduce(or_, STRATEGIES.values()), Field(discriminator="kind")]
