"""Loads policy files. An error names the file, the line, the key path and what was expected."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from policies.schema.policy import Policy
from policies.schema.split import AnyPolicy, Split

from .layers import BUILT_IN, Layer, list_policy_files, resolve_layers
from .regular_files import ReadFile, read_file
from .rubric_files import fill_rubrics
from .trained_files import STOCK_CALIBRATOR, fill_trained
from .yaml_files import ConfigError, KeyPath, validate


class LoadedPolicy(NamedTuple):
    """A policy, the merged content of its files as written, and the trained files that it uses."""

    policy: AnyPolicy
    layer: Layer
    trained: Mapping[KeyPath, Path]


def load_policy(path: Path) -> AnyPolicy:
    """Return the policy in a file, named after the file. Raises ConfigError."""
    return load_with_layer(path).policy


def load_policies(
    folder: Path | None = None, read: ReadFile = read_file, stock: Path = STOCK_CALIBRATOR
) -> dict[str, AnyPolicy]:
    """Return the policies of `folder` and the built-in ones, by name; those of `folder` win. `stock` is the file that
    `calibrator: stock` means.

    Raises ConfigError, which lists the mistakes in all of them."""
    return {name: loaded.policy for name, loaded in load_all_with_layers(folder, read, stock).items()}


def load_all_with_layers(
    folder: Path | None = None, read: ReadFile = read_file, stock: Path = STOCK_CALIBRATOR
) -> dict[str, LoadedPolicy]:
    """Return what `load_policies` returns, each with the merged content of its files. Raises ConfigError."""
    policies: dict[str, LoadedPolicy] = {}
    problems: list[str] = []
    for name, path in find_policy_paths(folder).items():
        try:
            policies[name] = load_with_layer(path, read, stock)
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


def load_with_layer(path: Path, read: ReadFile = read_file, stock: Path = STOCK_CALIBRATOR) -> LoadedPolicy:
    """Return the policy in a file and the merged content of its files. Raises ConfigError."""
    layer = resolve_layers(path, read)
    data, trained = fill_trained({**layer.data, "name": path.stem}, layer.places, read, stock)
    data = fill_rubrics(data, layer.places, read)
    if "split" in data:
        return LoadedPolicy(validate(Split, data, layer.places), layer, trained)
    return LoadedPolicy(validate(Policy, data, layer.places), layer, trained)
