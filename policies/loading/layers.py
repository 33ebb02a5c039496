"""`extends`: merging a policy file over the policy that it names."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from .yaml_files import At, ConfigError, Places, Read, nearest, placed, read_yaml

BUILT_IN = Path(str(resources.files("policies") / "builtin"))


class Layer(NamedTuple):
    """The merged content of one or more policy files.

    `places` maps each key path to the file and line that set it. `files` lists the policy's own file, then
    the files that it extends."""

    data: dict[str, Any]
    places: Places
    files: tuple[Path, ...]


def policy_files(folder: Path) -> list[Path]:
    """Return the policy files in a folder, sorted by name, without hidden ones (editors' locks, backups).

    Raises ConfigError if the folder cannot be read."""
    try:
        listed = sorted(folder.iterdir())
    except OSError as error:
        raise ConfigError(f"{folder} is not a folder that can be read: {error.strerror}") from error
    return [path for path in listed if path.suffix == ".yaml" and not path.name.startswith(".")]


def layered(path: Path, read: Read = Path.read_bytes) -> Layer:
    """Return the content of a policy file merged over the policies that it extends. Raises ConfigError."""
    layers = list(_chain(path, read))
    whole = layers.pop()
    while layers:
        whole = laid_over(whole, layers.pop())
    return whole


def _chain(path: Path, read: Read) -> Iterator[Layer]:
    """Yield the file's own content, then that of each policy it extends, directly or not."""
    met: list[Path] = []
    found: Path | None = path
    while found is not None:
        met.append(found)
        data, lines = read_yaml(found, read)
        places = placed(found, lines)
        if "name" in data:
            where = nearest(places, ("name",))
            raise ConfigError(f"{where}: name: unknown key; a policy is named by its file")
        extends = "extends" in data
        name = data.pop("extends", None)
        yield Layer(data, places, (found,))
        found = _base(name, met, f"{nearest(places, ('extends',))}: extends: ") if extends else None


def _base(name: Any, met: list[Path], where: str) -> Path:
    """Return the file of the policy that the last of `visited` extends: one beside it, or a built-in."""
    path = met[-1]
    if not isinstance(name, str):
        raise ConfigError(f"{where}expected the name of a policy, found {name!r}")
    beside = [other for other in policy_files(path.parent) if other != path]
    known = {other.stem: other for other in [*policy_files(BUILT_IN), *beside]}
    base = known.get(name)
    if base is None:
        others = ", ".join(sorted(known))
        raise ConfigError(
            f"{where}expected another policy beside this file or built in ({others}), found {name!r}"
        )
    if base in met:
        circle = " -> ".join(file.stem for file in [*met[met.index(base) :], base])
        raise ConfigError(f"{where}expected a chain that ends, found {circle}")
    return base


def laid_over(base: Layer, over: Layer) -> Layer:
    """Return `over` merged over `base`: mappings are merged, everything else is replaced.

    A mapping whose `kind` changes is replaced as a whole. `description` is not inherited, since it says who
    should use that one policy."""
    places = {at: place for at, place in base.places.items() if at[:1] != ("description",)}
    data = {key: value for key, value in base.data.items() if key != "description"}
    merged = _merged(data, over.data, (), places)
    return Layer(merged, places | over.places, over.files + base.files)


def _merged(below: dict[str, Any], over: dict[str, Any], at: At, places: Places) -> dict[str, Any]:
    """Return `over` merged over `base`, and remove the paths it replaces from `places`."""
    merged = dict(below)
    for key, value in over.items():
        under = below.get(key)
        if isinstance(under, dict) and isinstance(value, dict) and not _other_kind(under, value):
            merged[key] = _merged(under, value, (*at, key), places)
        else:
            _forget((*at, key), places)
            merged[key] = value
    return merged


def _other_kind(below: dict[str, Any], over: dict[str, Any]) -> bool:
    return "kind" in over and over["kind"] != below.get("kind")


def _forget(at: At, places: Places) -> None:
    for path in [path for path in places if path[: len(at)] == at]:
        del places[path]
