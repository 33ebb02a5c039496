"""Loads policy files. An error names the file, the line, the key path and what was expected."""

from pathlib import Path
from typing import NamedTuple

from policies.schema.policy import Policy
from policies.schema.split import AnyPolicy, Split

from .layers import BUILT_IN, Layer, layered, policy_files
from .rubric_files import with_rubrics
from .trained import filled
from .yaml_files import ConfigError, Read, validated


class Loaded(NamedTuple):
    """A policy, and the merged content of its files as written."""

    policy: AnyPolicy
    layer: Layer


def load_policy(path: Path) -> AnyPolicy:
    """Return the policy in a file, named after the file. Raises ConfigError."""
    return load(path).policy


def load_policies(folder: Path | None = None, read: Read = Path.read_bytes) -> dict[str, AnyPolicy]:
    """Return the policies of `folder` and the built-in ones, by name; those of `folder` win.

    Raises ConfigError, which lists the mistakes in all of them."""
    return {name: loaded.policy for name, loaded in load_all(folder, read).items()}


def load_all(folder: Path | None = None, read: Read = Path.read_bytes) -> dict[str, Loaded]:
    """Return what `load_policies` returns, each with the merged content of its files. Raises ConfigError."""
    found: dict[str, Loaded] = {}
    wrong: list[str] = []
    for name, path in policy_paths(folder).items():
        try:
            found[name] = load(path, read)
        except ConfigError as error:
            wrong += str(error).splitlines()
    if wrong:
        raise ConfigError("\n".join(dict.fromkeys(wrong)))  # each policy repeats its base's mistakes
    return found


def policy_paths(folder: Path | None = None) -> dict[str, Path]:
    """Return the file of each policy by the policy's name. Raises ConfigError."""
    try:
        own = [] if folder is None else policy_files(folder)
    except ConfigError as error:
        raise ConfigError(f"policies.folder: {error}") from error
    return {path.stem: path for path in [*policy_files(BUILT_IN), *own]}


def load(path: Path, read: Read = Path.read_bytes) -> Loaded:
    """Return the policy in a file and the merged content of its files. Raises ConfigError."""
    layer = layered(path, read)
    data = filled({**layer.data, "name": path.stem}, layer.places, read)
    data = with_rubrics(data, layer.places, read)
    if "split" in data:
        return Loaded(validated(Split, data, layer.places), layer)
    return Loaded(validated(Policy, data, layer.places), layer)
