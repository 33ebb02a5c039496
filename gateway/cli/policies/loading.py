"""Loads settings and policies for a command, which ends with a message if they are invalid."""

from collections.abc import Mapping
from pathlib import Path

from gateway.catalog.calibrators import Calibrators, ServedCalibrator
from gateway.cli.output import fail, warn
from gateway.local.factory import describe_local
from gateway.settings import Settings, default_config_path, load_settings
from gateway.upstreams.pool import Pool, build_pools
from gateway.upstreams.upstream import Upstream
from policies.loading.loader import LoadedPolicy, find_policy_paths, load_policies, load_with_layer
from policies.loading.regular_files import read_file
from policies.loading.yaml_files import ConfigError
from policies.schema.split import AnyPolicy
from routers.plan import Tier


def load_settings_or_fail(config: Path | None) -> Settings:
    """Return the settings. Ends the command with a message if they are invalid."""
    try:
        return load_settings(config or default_config_path())
    except ConfigError as error:
        fail(error)


def build_upstreams(settings: Settings) -> list[Upstream]:
    """Return the upstreams of a configuration, to read their properties. They are not to be called."""
    upstreams = [Upstream(upstream) for upstream in settings.upstreams]
    if settings.local is None:
        return upstreams
    return [describe_local(settings.local, settings.models_folder, warn), *upstreams]


def find_stock(settings: Settings, pools: Mapping[Tier, Pool]) -> Path:
    """Return the calibrator's file that `calibrator: stock` means."""
    return ServedCalibrator(Calibrators(settings.calibrators), pools.get("slm")).find(read_file)


def load_policies_or_fail(settings: Settings, pools: Mapping[Tier, Pool]) -> dict[str, AnyPolicy]:
    """Return all policies. Ends the command with a message if one is invalid."""
    try:
        return load_policies(settings.policies.folder, stock=find_stock(settings, pools))
    except ConfigError as error:
        fail(error)


def load_policy_or_fail(name: str, settings: Settings) -> LoadedPolicy:
    """Return one policy, without loading the others: their mistakes do not matter. Ends the command with a
    message if it cannot be loaded."""
    try:
        known = find_policy_paths(settings.policies.folder)
        path = Path(name) if name.endswith(".yaml") else known.get(name)
        if path is None:
            fail(f"there is no policy {name!r}; there are: {', '.join(known)}, or a policy's .yaml file")
        return load_with_layer(path, stock=find_stock(settings, build_pools(build_upstreams(settings))))
    except ConfigError as error:
        fail(error)
