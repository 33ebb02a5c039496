"""Rubrics by name: those that ship, and those in the folder `rubrics` beside the operator's policies."""

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
"""Where a policy file may name a rubric."""


def load_rubric(path: Path, read: Read = Path.read_bytes) -> Rubric:
    """The rubric in a file, which is named as the file is. Raises ConfigError."""
    data, lines = read_yaml(path, read)
    places = placed(path, lines)
    rubric = validated(Rubric, data, places)
    if rubric.name != path.stem:
        raise ConfigError(
            f"{nearest(places, ('name',))}: name: expected the file's name, {path.stem!r}, found {rubric.name!r}"
        )
    return rubric


def rubric_paths(folder: Path | None = None) -> dict[str, Path]:
    """The file of each rubric by its name: the built-in ones and those beside a folder's policies, which win. Raises
    ConfigError."""
    own = [] if folder is None or not (folder / FOLDER).is_dir() else policy_files(folder / FOLDER)
    return {path.stem: path for path in [*policy_files(BUILT_IN / FOLDER), *own]}


def load_rubrics(folder: Path | None = None, read: Read = Path.read_bytes) -> dict[str, Rubric]:
    """All of them by name. Raises ConfigError, which tells what is wrong with any of them."""
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
    """What a policy's files say, with rubrics instead of their names. Raises ConfigError."""
    for at in RATING:
        data = _filled(data, at, (), places, read)
    return data


def _filled(data: Any, path: At, at: At, places: Places, read: Read) -> Any:
    """With the rubric of what is at a path from here, if a rating is; `at` is where here is."""
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
    """Meant from the file that named it."""
    place = nearest(places, at)
    known = rubric_paths(place.path.parent)
    if name not in known:
        raise ConfigError(f"{place}: {dotted(at)}: expected a rubric ({', '.join(known)}), found {name!r}")
    return load_rubric(known[name], read)
