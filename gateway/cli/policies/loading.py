"""Loads settings and policies for a command, which ends with a message if they are invalid."""

from pathlib import Path

from gateway.cli.output import fail
from gateway.settings import Settings, default_config_path, load_settings
from policies.loading.loader import LoadedPolicy, find_policy_paths, load_policies, load_with_layer
from policies.loading.yaml_files import ConfigError
from policies.schema.split import AnyPolicy


def load_settings_or_fail(config: Path | None) -> Settings:
    """Return the settings. Ends the command with a message if they are invalid."""
    try:
        return load_settings(config or default_config_path())
    except ConfigError as error:
        fail(error)


def load_policies_or_fail(settings: Settings) -> dict[str, AnyPolicy]:
    """Return all policies. Ends the command with a message if one is invalid."""
    try:
        return load_policies(settings.policies.folder)
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
        return load_with_layer(path)
    except ConfigError as error:
        fail(error)
