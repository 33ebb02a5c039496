"""`extends`: merging a policy file over the policy that it names."""

import reprlib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from .regular_files import ReadFile, read_file
from .yaml_files import ConfigError, KeyPath, Places, find_place, read_yaml, to_places

BUILT_IN = Path(str(resources.files("policies") / "builtin"))


class Layer(NamedTuple):
    """The merged content of one or more policy files.

    `places` maps each key path to the file and line that set it. `files` lists the policy's own file, then
    the files that it extends."""

    data: dict[str, Any]
    places: Places
    files: tuple[Path, ...]


def list_policy_files(folder: Path) -> list[Path]:
    """Return the policy files in a folder, sorted by name, without hidden ones (editors' locks, backups).

    Raises ConfigError if the folder cannot be read."""
    try:
        listed = sorted(folder.iterdir())
    except OSError as error:
        raise ConfigError(f"{folder} is not a folder that can be read: {error.strerror}") from error
    return [path for path in listed if path.suffix == ".yaml" and not path.name.startswith(".")]


def resolve_layers(path: Path, read: ReadFile = read_file) -> Layer:
    """Return the content of a policy file merged over the policies that it extends. Raises ConfigError."""
    layers = list(_read_chain(path, read))
    merged = layers.pop()
    while layers:
        merged = merge_layers(merged, layers.pop())
    return merged


def _read_chain(path: Path, read: ReadFile) -> Iterator[Layer]:
    """Yield the file's own content, then that of each policy it extends, directly or not."""
    visited: list[Path] = []
    current: Path | None = path
    while current is not None:
        visited.append(current)
        data, lines = read_yaml(current, read)
        places = to_places(current, lines)
        if "name" in data:
            where = find_place(places, ("name",))
            raise ConfigError(f"{where}: name: unknown key; a policy is named by its file")
        extends = "extends" in data
        name = data.pop("extends", None)
        yield Layer(data, places, (current,))
        current = (
            _find_base(name, visited, f"{find_place(places, ('extends',))}: extends: ") if extends else None
        )


def _find_base(name: Any, visited: list[Path], where: str) -> Path:
    """Return the file of the policy that the last of `visited` extends: one beside it, or a built-in."""
    path = visited[-1]
    if not isinstance(name, str):
        raise ConfigError(f"{where}expected the name of a policy, found {reprlib.repr(name)}")
    beside = [other for other in list_policy_files(path.parent) if other != path]
    known = {other.stem: other for other in [*list_policy_files(BUILT_IN), *beside]}
    base = known.get(name)
    if base is None:
        others = ", ".join(sorted(known))
        raise ConfigError(
            f"{where}expected another policy beside this file or built in ({others}), found {name!r}"
        )
    if base in visited:
        cycle = " -> ".join(file.stem for file in [*visited[visited.index(base) :], base])
        raise ConfigError(f"{where}expected a chain that ends, found {cycle}")
    return base


def merge_layers(base: Layer, over: Layer) -> Layer:
    """Return `over` merged over `base`: mappings are merged, everything else is replaced.

    A mapping whose `kind` changes is replaced as a whole. `description` is not inherited, since it says who
    should use that one policy."""
    places = {at: place for at, place in base.places.items() if at[:1] != ("description",)}
    data = {key: value for key, value in base.data.items() if key != "description"}
    merged = _merge_mappings(data, over.data, (), places)
    return Layer(merged, places | over.places, over.files + base.files)


def _merge_mappings(
    base: dict[str, Any], over: dict[str, Any], at: KeyPath, places: Places
) -> dict[str, Any]:
    """Return `over` merged over `base`, and remove the paths it replaces from `places`."""
    merged = dict(base)
    for key, value in over.items():
        base_value = base.get(key)
        if (
            isinstance(base_value, dict)
            and isinstance(value, dict)
            and not _has_other_kind(base_value, value)
        ):
            merged[key] = _merge_mappings(base_value, value, (*at, key), places)
        else:
            _remove_places((*at, key), places)
            merged[key] = value
    return merged


def _has_other_kind(base: dict[str, Any], over: dict[str, Any]) -> bool:
    return "kind" in over and over["kind"] != base.get("kind")


def _remove_places(at: KeyPath, places: Places) -> None:
    for path in [path for path in places if path[: len(at)] == at]:
        del places[path]
