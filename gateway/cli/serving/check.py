"""smallfirst check: validates a configuration without starting the server."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from gateway.catalog.catalog import build_catalog
from gateway.catalog.judge_quality import judge_warnings
from gateway.cli.output import ConfigOption, fail, out
from gateway.cli.policies.loading import build_upstreams, find_stock
from gateway.cli.policies.notices import list_notices
from gateway.local.preparation import prepare_engine
from gateway.local.settings import LOCAL_UPSTREAM_NAME
from gateway.settings import default_config_path, load_settings
from gateway.upstreams.capability_probe import ProbeFailed, fetch_context_length, probe_capabilities
from gateway.upstreams.pool import build_pools
from gateway.upstreams.upstream import Upstream
from policies.loading.loader import load_policies
from policies.loading.rubric_files import load_rubrics
from policies.loading.yaml_files import ConfigError
from policies.schema.policy import Policy
from policies.schema.split import AnyPolicy

from .settings_warnings import find_settings_warnings


def check(
    config: ConfigOption = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Ask the upstreams what they can do; costs a few tokens each.")
    ] = False,
) -> None:
    """Validate the configuration and the policies; contacts nothing unless asked to."""
    path = config or default_config_path()
    try:
        settings = load_settings(path)
        sizing = None
        if settings.local is not None:
            sizing = prepare_engine(settings.local, settings.models_folder).sizing
            settings = settings.model_copy(update={"local": sizing.local})
        by_tier = build_pools(build_upstreams(settings))
        policies = load_policies(settings.policies.folder, stock=find_stock(settings, by_tier))
        load_rubrics(settings.policies.folder)
        catalog = build_catalog(policies.values(), by_tier)
    except ConfigError as error:
        fail(error)
    if probe:
        asyncio.run(_probe_upstreams([Upstream(upstream) for upstream in settings.upstreams]))
        if settings.local is not None:
            out.print(f"{LOCAL_UPSTREAM_NAME}: not tried: it is not running", markup=False)
    if sizing is not None:
        out.print(f"{LOCAL_UPSTREAM_NAME}: {sizing.sentence}", markup=False)
    for name in (*catalog.policies, *catalog.splits):
        out.print(f"policy {name}: ok{_describe_privacy(policies[name])}", markup=False)
    for name, served in catalog.policies.items():
        for warning in judge_warnings(served, by_tier):
            out.print(f"policy {name}: {warning}", markup=False)
    for notice in (*find_settings_warnings(settings), *list_notices(catalog, by_tier, settings.local)):
        out.print(str(notice), markup=False)
    out.print(f"{path or 'defaults and environment'}: ok", markup=False)


def _describe_privacy(policy: AnyPolicy) -> str:
    private = policy.private if isinstance(policy, Policy) else False
    if private is True:
        return "; no cloud sees its requests"
    return f"; {private}" if private else ""


async def _probe_upstreams(upstreams: list[Upstream]) -> None:
    for upstream in upstreams:
        try:
            with _log_only_errors():  # a refused probe is a result, not a problem
                capabilities = await probe_capabilities(upstream)
        except ProbeFailed as why:
            out.print(f"{upstream.name}: not tried: {why}", markup=False)
        else:
            _print_comparison(upstream, {"context": await fetch_context_length(upstream), **capabilities})
        finally:
            await upstream.close()


@contextmanager
def _log_only_errors() -> Iterator[None]:
    logger = logging.getLogger("gateway")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _print_comparison(upstream: Upstream, probed: dict[str, int | None]) -> None:
    configured = {"context": upstream.context_length, **upstream.capabilities.model_dump()}
    out.print(f"{upstream.name}, {upstream.model}:", markup=False)
    out.print(f"  {'':14}{'said':>9}{'found':>9}", markup=False)
    for name, value in probed.items():
        note = "" if value is None or value == configured[name] else "   differs"
        out.print(
            f"  {name:14}{_format_value(configured[name]):>9}{_format_value(value):>9}{note}", markup=False
        )


def _format_value(value: int | None) -> str:
    return (
        {None: "unknown", True: "yes", False: "no"}[value] if isinstance(value, bool | None) else str(value)
    )
