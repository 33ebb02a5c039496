"""Loads policy files. An error names the file, the line, the key path and what was expected."""

from pathlib import Path
from typing import NamedTuple

from policies.schema.policy import Policy
from policies.schema.split import AnyPolicy, Split

from .layers import BUILT_IN, Layer, list_policy_files, resolve_layers
from .regular_files import ReadFile, read_file
from .rubric_files import fill_rubrics
from .trained_files import fill_trained
from .yaml_files import ConfigError, validate


class LoadedPolicy(NamedTuple):
    """A policy, and the merged content of its files as written."""

    policy: AnyPolicy
    layer: Layer


def load_policy(path: Path) -> AnyPolicy:
    """Return the policy in a file, named after the file. Raises ConfigError."""
    return load_with_layer(path).policy


def load_policies(folder: Path | None = None, read: ReadFile = read_file) -> dict[str, AnyPolicy]:
    """Return the policies of `folder` and the built-in ones, by name; those of `folder` win.

    Raises ConfigError, which lists the mistakes in all of them."""
    return {name: loaded.policy for name, loaded in load_all_with_layers(folder, read).items()}


def load_all_with_layers(folder: Path | None = None, read: ReadFile = read_file) -> dict[str, LoadedPolicy]:
    """Return what `load_policies` returns, each with the merged content of its files. Raises ConfigError."""
    policies: dict[str, LoadedPolicy] = {}
    problems: list[str] = []
    for name, path in find_policy_paths(folder).items():
        try:
            policies[name] = load_with_layer(path, read)
        except ConfigError as error:
            problems += str(error).splitlines()
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))  # each policy repeats its base's mistakes
    return policies


def find_policy_paths(folder: Path | None = None) -> dict[str, Path]:
    """Return the file of each policy by the policy's name. Raises ConfigError."""
    try:
        own = [] if folder is None else list_policy_files(folder)
    except ConfigError as error:
        raise ConfigError(f"policies.folder: {error}") from error
    return {path.stem: path for path in [*list_policy_files(BUILT_IN), *own]}


def load_with_layer(path: Path, read: ReadFile = read_file) -> LoadedPolicy:
    """Return the policy in a file and the merged content of its files. Raises ConfigError."""
    layer = resolve_layers(path, read)
    data = fill_trained({**layer.data, "name": path.stem}, layer.places, read)
    data = fill_rubrics(data, layer.places, read)
    if "split" in data:
        return LoadedPolicy(validate(Split, data, layer.places), layer)
    return LoadedPolicy(validate(Policy, data, layer.places), layer)
