"""Loads rubrics by name: built-in ones, and those in the folder `rubrics` beside the operator's policies."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from routers.judges.rubric import Rubric

from .layers import BUILT_IN, list_policy_files
from .regular_files import ReadFile, read_file
from .yaml_files import (
    ConfigError,
    KeyPath,
    Places,
    find_place,
    read_yaml,
    to_dotted,
    to_places,
    validate,
)

RUBRICS_FOLDER = "rubrics"

EACH_ITEM = "*"
RATING_PATHS: tuple[KeyPath, ...] = (
    ("router", "judge"),
    ("router", "otherwise", "judge"),
    ("evaluate", "evaluators", EACH_ITEM),
)
"""Key paths at which a policy file may name a rubric."""


def load_rubric(path: Path, read: ReadFile = read_file) -> Rubric:
    """Return the rubric in a file. Raises ConfigError, also if its name is not the file's."""
    data, lines = read_yaml(path, read)
    places = to_places(path, lines)
    rubric = validate(Rubric, data, places)
    if rubric.name != path.stem:
        raise ConfigError(
            f"{find_place(places, ('name',))}: name: expected the file's name, {path.stem!r}, found {rubric.name!r}"
        )
    return rubric


def find_rubric_paths(folder: Path | None = None) -> dict[str, Path]:
    """Return the file of each rubric by name; rubrics beside the policies of `folder` win over built-in ones.

    Raises ConfigError."""
    own = (
        []
        if folder is None or not (folder / RUBRICS_FOLDER).is_dir()
        else list_policy_files(folder / RUBRICS_FOLDER)
    )
    return {path.stem: path for path in [*list_policy_files(BUILT_IN / RUBRICS_FOLDER), *own]}


def load_rubrics(folder: Path | None = None, read: ReadFile = read_file) -> dict[str, Rubric]:
    """Return all rubrics by name. Raises ConfigError, which lists the mistakes in all of them."""
    rubrics: dict[str, Rubric] = {}
    problems: list[str] = []
    for name, path in find_rubric_paths(folder).items():
        try:
            rubrics[name] = load_rubric(path, read)
        except ConfigError as error:
            problems += str(error).splitlines()
    if problems:
        raise ConfigError("\n".join(problems))
    return rubrics


def fill_rubrics(data: dict[str, Any], places: Places, read: ReadFile) -> dict[str, Any]:
    """Return the content of a policy with rubrics in place of their names. Raises ConfigError."""
    for at in RATING_PATHS:
        data = _fill_rubric(data, at, (), places, read)
    return data


def _fill_rubric(data: Any, remaining: KeyPath, at: KeyPath, places: Places, read: ReadFile) -> Any:
    """Return `data` with the rubrics of the ratings at the path `remaining` below `at`, the path of `data`."""
    if remaining:
        key, *rest = remaining
        if isinstance(data, Mapping) and key in data:
            return {**data, key: _fill_rubric(data[key], tuple(rest), (*at, key), places, read)}
        if isinstance(data, list) and key == EACH_ITEM:
            return [
                _fill_rubric(item, tuple(rest), (*at, index), places, read) for index, item in enumerate(data)
            ]
        return data
    if isinstance(data, Mapping) and data.get("kind") == "rate" and isinstance(data.get("rubric"), str):
        return {**data, "rubric": _load_named(data["rubric"], (*at, "rubric"), places, read)}
    return data


def _load_named(name: str, at: KeyPath, places: Places, read: ReadFile) -> Rubric:
    """Return the rubric `name`, looked up beside the file that named it. Raises ConfigError."""
    place = find_place(places, at)
    known = find_rubric_paths(place.path.parent)
    if name not in known:
        raise ConfigError(f"{place}: {to_dotted(at)}: expected a rubric ({', '.join(known)}), found {name!r}")
    return load_rubric(known[name], read)
