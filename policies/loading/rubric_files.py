"""Loads rubrics by name: built-in ones, and those in the folder `rubrics` beside the operator's policies."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from routers.judges.rubric import Rubric

from .layers import BUILT_IN, policy_files
from .yaml_files import At, ConfigError, Places, Read, dotted, nearest, placed, read_yaml, validated

FOLDER = "rubrics"

EACH = "*"
RATING: tuple[At, ...] = (
    ("router", "judge"),
    ("router", "otherwise", "judge"),
    ("evaluate", "evaluators", EACH),
)
"""Key paths at which a policy file may name a rubric."""


def load_rubric(path: Path, read: Read = Path.read_bytes) -> Rubric:
    """Return the rubric in a file. Raises ConfigError, also if its name is not the file's."""
    data, lines = read_yaml(path, read)
    places = placed(path, lines)
    rubric = validated(Rubric, data, places)
    if rubric.name != path.stem:
        raise ConfigError(
            f"{nearest(places, ('name',))}: name: expected the file's name, {path.stem!r}, found {rubric.name!r}"
        )
    return rubric


def rubric_paths(folder: Path | None = None) -> dict[str, Path]:
    """Return the file of each rubric by name; rubrics beside the policies of `folder` win over built-in ones.

    Raises ConfigError."""
    own = [] if folder is None or not (folder / FOLDER).is_dir() else policy_files(folder / FOLDER)
    return {path.stem: path for path in [*policy_files(BUILT_IN / FOLDER), *own]}


def load_rubrics(folder: Path | None = None, read: Read = Path.read_bytes) -> dict[str, Rubric]:
    """Return all rubrics by name. Raises ConfigError, which lists the mistakes in all of them."""
    found: dict[str, Rubric] = {}
    wrong: list[str] = []
    for name, path in rubric_paths(folder).items():
        try:
            found[name] = load_rubric(path, read)
        except ConfigError as error:
            wrong += str(error).splitlines()
    if wrong:
        raise ConfigError("\n".join(wrong))
    return found


def with_rubrics(data: dict[str, Any], places: Places, read: Read) -> dict[str, Any]:
    """Return the content of a policy with rubrics in place of their names. Raises ConfigError."""
    for at in RATING:
        data = _filled(data, at, (), places, read)
    return data


def _filled(data: Any, path: At, at: At, places: Places, read: Read) -> Any:
    """Return `data` with the rubrics of the ratings at the path `remaining` below `at`, the path of `data`."""
    if path:
        key, *rest = path
        if isinstance(data, Mapping) and key in data:
            return {**data, key: _filled(data[key], tuple(rest), (*at, key), places, read)}
        if isinstance(data, list) and key == EACH:
            return [_filled(one, tuple(rest), (*at, index), places, read) for index, one in enumerate(data)]
        return data
    if isinstance(data, Mapping) and data.get("kind") == "rate" and isinstance(data.get("rubric"), str):
        return {**data, "rubric": _named(data["rubric"], (*at, "rubric"), places, read)}
    return data


def _named(name: str, at: At, places: Places, read: Read) -> Rubric:
    """Return the rubric `name`, looked up beside the file that named it. Raises ConfigError."""
    place = nearest(places, at)
    known = rubric_paths(place.path.parent)
    if name not in known:
        raise ConfigError(f"{place}: {dotted(at)}: expected a rubric ({', '.join(known)}), found {name!r}")
    return load_rubric(known[name], read)
