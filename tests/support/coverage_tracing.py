"""Coverage is measured where it counts: routers and policies are covered by their own tests. To trace the others
too takes as long again as half of them."""

from collections.abc import Generator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import coverage
import pytest

LAYERS = ("policies", "routers")
UNTRACED = ("untraced", "hypothesis")
"""Marks of tests that aren't measured. Hypothesis marks its own: a tracer sees every step by which it comes to its
examples, and most of the time goes there. What they run, tests by example run as well."""
TESTS = tuple(Path(__file__).parents[1] / "unit" / layer for layer in LAYERS)

tracing = pytest.StashKey[coverage.Coverage]()
"""Stopped, but while a test of the layers runs; absent where nothing is measured."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    measuring = coverage.Coverage.current()
    if measuring is None:
        return
    if not session.config.pluginmanager.has_plugin("dsession"):  # who hands tests out to workers runs none
        for layer in LAYERS:
            for module in walk_packages(import_module(layer).__path__, f"{layer}."):
                import_module(module.name)  # what stands outside of functions runs once
    while (outer := coverage.Coverage.current()) is not None:  # in a worker there is one more, which goes on
        outer.stop()
    session.config.stash[tracing] = measuring


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    measuring = item.config.stash.get(tracing, None)
    if measuring is None or not _counts(item):
        return (yield)
    measuring.start()
    try:
        return (yield)
    finally:
        measuring.stop()


def _counts(item: pytest.Item) -> bool:
    if any(item.get_closest_marker(mark) for mark in UNTRACED):
        return False
    return any(item.path.is_relative_to(folder) for folder in TESTS)
