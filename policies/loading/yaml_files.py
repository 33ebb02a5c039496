"""YAML files -> checked values. An error names file, line, path in the file and what was expected."""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

M = TypeVar("M", bound=BaseModel)
At = tuple[str | int, ...]
Lines = dict[At, int]
Read = Callable[[Path], bytes]


class ConfigError(ValueError):
    """A configuration that can't be used; its text is for the person who wrote it."""


class Place(NamedTuple):
    """Where a key stands; the line is 1-based."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


Places = dict[At, Place]


def read_yaml(path: Path, read: Read = Path.read_bytes) -> tuple[dict[str, Any], Lines]:
    """The mapping in a YAML file and the 1-based line of each path in it.

    Raises ConfigError where the file can't be read, is not YAML, names a key twice or is no mapping.
    """
    try:
        text = read(path).decode()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text") from error
    try:
        remembered, lines = _parsed(text, path)
        data = deepcopy(remembered)
    except RecursionError as error:
        raise ConfigError(f"{path}:1: is nested too deeply") from error
    if data is None:
        return {}, lines
    if not isinstance(data, dict):
        raise ConfigError(f"{path}:1: expected a mapping of settings, found {type(data).__name__}")
    return data, lines


@lru_cache(128)
def _parsed(text: str, path: Path) -> tuple[Any, Lines]:
    """Remembered, since a policy is read again for each that extends it, and at every reload."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines = dict(_lines(node, (), path, set()))  # before merge keys are resolved, which changes the nodes
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: is not YAML: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{path}:{line}: is not YAML: {error.reason}") from error
    except ConfigError:
        raise
    except ValueError as error:  # what looks like a date or a number and is none
        raise ConfigError(f"{path}:1: is not YAML: {error}") from error


def _lines(node: yaml.Node, at: At, path: Path, met: set[int]) -> Iterator[tuple[At, int]]:
    """`met` are the nodes walked before: what an alias repeats, itself perhaps, has its lines already."""
    yield at, node.start_mark.line + 1
    if id(node) in met:
        return
    met.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _lines(item, (*at, index), path, met)
    if isinstance(node, yaml.MappingNode):
        yield from _lines_of_keys(node, at, path, met)


def _lines_of_keys(node: yaml.MappingNode, at: At, path: Path, met: set[int]) -> Iterator[tuple[At, int]]:
    seen = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue  # refused when it is constructed
        line = key.start_mark.line + 1
        here = (*at, key.value)
        if key.value in seen:
            raise ConfigError(f"{path}:{line}: {dotted(here)}: this key stands twice")
        seen.add(key.value)
        yield from _lines(value, here, path, met)
        yield here, line


def dotted(at: At) -> str:
    return ".".join(map(str, at))


def placed(path: Path, lines: Lines) -> Places:
    """Where each path of one file stands; the file's beginning where nothing better is known."""
    return {(): Place(path, 1)} | {at: Place(path, line) for at, line in lines.items()}


def nearest(places: Mapping[At, Place], at: At) -> Place:
    """Where a path stands, or else what it is in."""
    return next(places[at[:n]] for n in range(len(at), -1, -1) if at[:n] in places)


def explain(error: ValidationError, places: Places) -> ConfigError:
    """A pydantic error as one line for each mistake: file:line: path: expectation."""
    return ConfigError("\n".join(_explain_one(detail, places) for detail in error.errors()))


def _explain_one(detail: ErrorDetails, places: Places) -> str:
    at = detail["loc"]
    # Discriminators and union members stand in pydantic's location but not in the file.
    known: At = ()
    for part in at:
        known = (*known, part) if (*known, part) in places else known
    if detail["type"] == "missing":
        known = (*known, at[-1])
    what = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        what = "unknown key"
    elif detail["type"] == "missing":
        what = "this key is required"
    found = detail["input"]
    shown = f", found {found!r}" if isinstance(found, str | int | float | bool) and _harmless(detail) else ""
    return f"{nearest(places, known)}: {dotted(known) or 'the file'}: {what}{shown}"


def _harmless(detail: ErrorDetails) -> bool:
    """Whether the value is no secret: an unknown key may be a misspelt `key`."""
    return detail["type"] != "extra_forbidden" and not {"key", "headers", "query"} & set(detail["loc"])


def validated(model: type[M], data: Any, places: Places) -> M:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise explain(error, places) from error
