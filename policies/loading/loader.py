"""Policy files -> policies. An error names file, line, path in the file and what was expected."""

from pathlib import Path
from typing import NamedTuple

from policies.schema.policy import Policy
from policies.schema.split import AnyPolicy, Split

from .layers import BUILT_IN, Layer, layered, policy_files
from .rubric_files import with_rubrics
from .trained import filled
from .yaml_files import ConfigError, Read, validated


class Loaded(NamedTuple):
    """A policy, and what its files say as they say it."""

    policy: AnyPolicy
    layer: Layer


def load_policy(path: Path) -> AnyPolicy:
    """The policy in a file; its name is the file's. Raises ConfigError."""
    return load(path).policy


def load_policies(folder: Path | None = None, read: Read = Path.read_bytes) -> dict[str, AnyPolicy]:
    """Built-in policies and those of `folder`, which win over built-in ones of the same name. Raises ConfigError,
    which tells what is wrong with any of them."""
    return {name: loaded.policy for name, loaded in load_all(folder, read).items()}


def load_all(folder: Path | None = None, read: Read = Path.read_bytes) -> dict[str, Loaded]:
    """As `load_policies`, with what the files say."""
    found: dict[str, Loaded] = {}
    wrong: list[str] = []
    for name, path in policy_paths(folder).items():
        try:
            found[name] = load(path, read)
        except ConfigError as error:
            wrong += str(error).splitlines()
    if wrong:
        raise ConfigError("\n".join(dict.fromkeys(wrong)))  # a base's mistake is also that of who extends it
    return found


def policy_paths(folder: Path | None = None) -> dict[str, Path]:
    """The file of each policy by the policy's name. Raises ConfigError."""
    try:
        own = [] if folder is None else policy_files(folder)
    except ConfigError as error:
        raise ConfigError(f"policies.folder: {error}") from error
    return {path.stem: path for path in [*policy_files(BUILT_IN), *own]}


def load(path: Path, read: Read = Path.read_bytes) -> Loaded:
    """As `load_policy`, with what the files say; `read` is how they are read."""
    layer = layered(path, read)
    data = filled({**layer.data, "name": path.stem}, layer.places, read)
    data = with_rubrics(data, layer.places, read)
    if "split" in data:
        return Loaded(validated(Split, data, layer.places), layer)
    return Loaded(validated(Policy, data, layer.places), layer)
