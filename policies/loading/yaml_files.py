"""Reads and validates YAML files. An error names the file, the line, the key path and what was expected."""

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
    """A configuration that cannot be used. The message is for the person who wrote it."""


class Place(NamedTuple):
    """The file and the 1-based line of a key."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


Places = dict[At, Place]


def read_yaml(path: Path, read: Read = Path.read_bytes) -> tuple[dict[str, Any], Lines]:
    """Return the mapping in a YAML file and the 1-based line of each key path in it.

    Raises ConfigError if the file cannot be read, is not YAML, has a duplicate key or holds no mapping.
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
    """Parse YAML text; cached, since a base is read for each policy that extends it, and at reloads."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines = dict(_lines(node, (), path, set()))  # before construction, which changes the nodes
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: is not YAML: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{path}:{line}: is not YAML: {error.reason}") from error
    except ConfigError:
        raise
    except ValueError as error:  # text that looks like a date or a number but is not valid
        raise ConfigError(f"{path}:1: is not YAML: {error}") from error


def _lines(node: yaml.Node, at: At, path: Path, met: set[int]) -> Iterator[tuple[At, int]]:
    """Yield each key path with its line. `visited` holds ids of nodes done before: aliases repeat nodes."""
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
    """Return the place of each key path of one file; the empty path stands at the file's first line."""
    return {(): Place(path, 1)} | {at: Place(path, line) for at, line in lines.items()}


def nearest(places: Mapping[At, Place], at: At) -> Place:
    """Return the place of a key path, or that of its nearest parent."""
    return next(places[at[:n]] for n in range(len(at), -1, -1) if at[:n] in places)


def explain(error: ValidationError, places: Places) -> ConfigError:
    """Return a pydantic error as a ConfigError, one line a mistake: `file:line: key path: expectation`."""
    return ConfigError("\n".join(_explain_one(detail, places) for detail in error.errors()))


def _explain_one(detail: ErrorDetails, places: Places) -> str:
    at = detail["loc"]
    # pydantic's location also has discriminators and union members, which are not in the file.
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
    """True if the value cannot be a secret. The value of an unknown key may be: it may be a misspelt `key`."""
    return detail["type"] != "extra_forbidden" and not {"key", "headers", "query"} & set(detail["loc"])


def validated(model: type[M], data: Any, places: Places) -> M:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise explain(error, places) from error
