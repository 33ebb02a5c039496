"""smallfirst check: validates a configuration without starting the server."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from gateway.catalog.catalog import catalogue
from gateway.catalog.evaluator_warnings import doubts
from gateway.cli.output import ConfigOption, fail, out
from gateway.local.factory import as_upstream, check_local
from gateway.local.settings import LOCAL
from gateway.settings import Settings, default_path, load_settings
from gateway.upstreams.capability_probe import Untried, context_told, tried
from gateway.upstreams.pool import pools
from gateway.upstreams.upstream import Upstream
from policies.loading.loader import load_policies
from policies.loading.rubric_files import load_rubrics
from policies.loading.yaml_files import ConfigError
from policies.schema.policy import Policy


def check(
    config: ConfigOption = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Ask the upstreams what they can do; costs a few tokens each.")
    ] = False,
) -> None:
    """Validate the configuration and the policies; contacts nothing unless asked to."""
    path = config or default_path()
    try:
        settings = load_settings(path)
        policies = load_policies(settings.policies.folder)
        load_rubrics(settings.policies.folder)
        if settings.local is not None:
            check_local(settings.local, settings.models_folder)
    except ConfigError as error:
        fail(error)
    by_tier = pools(described(settings))
    found = catalogue(policies.values(), by_tier)
    if probe:
        asyncio.run(_probe([Upstream(upstream) for upstream in settings.upstreams]))
        if settings.local is not None:
            out.print(f"{LOCAL}: not tried: it is not running", markup=False)
    for name in (*found.policies, *found.splits):
        policy = policies[name]
        private = policy.private if isinstance(policy, Policy) else False
        told = "" if not private else "; no cloud sees its requests" if private is True else f"; {private}"
        out.print(f"policy {name}: ok{told}", markup=False)
    for name, served in found.policies.items():
        for doubt in doubts(served, by_tier):
            out.print(f"policy {name}: {doubt}", markup=False)
    for name, why in found.unavailable.items():
        out.print(f"policy {name}: not served: {why}", markup=False)
    out.print(f"{path or 'defaults and environment'}: ok", markup=False)


async def _probe(upstreams: list[Upstream]) -> None:
    for upstream in upstreams:
        try:
            with _only_errors_logged():  # a refused probe is a result, not a problem
                found = await tried(upstream)
        except Untried as why:
            out.print(f"{upstream.name}: not tried: {why}", markup=False)
        else:
            _report(upstream, {"context": await context_told(upstream), **found})
        finally:
            await upstream.close()


@contextmanager
def _only_errors_logged() -> Iterator[None]:
    logger = logging.getLogger("gateway")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _report(upstream: Upstream, found: dict[str, int | None]) -> None:
    said = {"context": upstream.context, **upstream.capabilities.model_dump()}
    out.print(f"{upstream.name}, {upstream.model}:", markup=False)
    out.print(f"  {'':14}{'said':>9}{'found':>9}", markup=False)
    for name, value in found.items():
        note = "" if value is None or value == said[name] else "   differs"
        out.print(f"  {name:14}{_shown(said[name]):>9}{_shown(value):>9}{note}", markup=False)


def _shown(value: int | None) -> str:
    return (
        {None: "unknown", True: "yes", False: "no"}[value] if isinstance(value, bool | None) else str(value)
    )


def described(settings: Settings) -> list[Upstream]:
    """Return the upstreams of a configuration, to read their properties. They are not to be called."""
    local = [] if settings.local is None else [as_upstream(settings.local, port=1)]
    return [Upstream(upstream) for upstream in (*local, *settings.upstreams)]
