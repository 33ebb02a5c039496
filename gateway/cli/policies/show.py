"""smallfirst policy list, show and diff: prints policies and compares them."""

from typing import Annotated

import typer

from gateway.catalog.catalog import build_catalog
from gateway.cli.output import ConfigOption, out
from gateway.upstreams.pool import build_pools
from policies.explain.origins import compare_policies, to_yaml_lines

from .loading import build_upstreams, load_policies_or_fail, load_policy_or_fail, load_settings_or_fail
from .notices import list_notices

PolicyArgument = Annotated[str, typer.Argument(help="A policy's name, or a policy file.")]


def list_policies(config: ConfigOption = None) -> None:
    """Show each policy's name, kind and description, and why it can't be served or is uncalibrated."""
    settings = load_settings_or_fail(config)
    pools = build_pools(build_upstreams(settings))
    policies = load_policies_or_fail(settings, pools)
    notices = list(list_notices(build_catalog(policies.values(), pools), pools, settings.local))
    names = max(map(len, policies))
    kinds = max(len(policy.kind) for policy in policies.values())
    for name, policy in policies.items():
        description = " ".join(policy.description.split())
        out.print(f"{name:{names}}  {policy.kind:{kinds}}  {description}", markup=False)
        for notice in [notice for notice in notices if name in notice.policies]:
            first = notice.policies[0]
            text = notice.text if name == first else f"{notice.text.partition(':')[0]}, as {first}"
            out.print(f"{'':{names}}  {text}", markup=False)


def show(policy: PolicyArgument, config: ConfigOption = None) -> None:
    """Print a policy whole, as YAML, with what it extends; comments name file and line of each key."""
    for line in to_yaml_lines(load_policy_or_fail(policy, load_settings_or_fail(config))):
        out.print(line, markup=False)


def diff(policy: PolicyArgument, other: PolicyArgument, config: ConfigOption = None) -> None:
    """Print each path at which two policies differ, and both values."""
    settings = load_settings_or_fail(config)
    for line in compare_policies(load_policy_or_fail(policy, settings), load_policy_or_fail(other, settings)):
        out.print(line, markup=False)
