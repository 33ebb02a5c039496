"""Reads and validates YAML files. An error names the file, the line, the key path and what was expected."""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .regular_files import ReadFile, read_file

M = TypeVar("M", bound=BaseModel)
KeyPath = tuple[str | int, ...]
KeyLines = dict[KeyPath, int]

MAX_YAML_CHARACTERS = 2**20
"""Maximum characters of a YAML text. Parsing takes seconds for each hundred thousand."""

MAX_DEPTH = 64
"""Maximum levels of mappings and sequences in a YAML text."""


class ConfigError(ValueError):
    """A configuration that cannot be used. The message is for the person who wrote it."""


class Place(NamedTuple):
    """The file and the 1-based line of a key."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


Places = dict[KeyPath, Place]


def read_yaml(path: Path, read: ReadFile = read_file) -> tuple[dict[str, Any], KeyLines]:
    """Return the mapping in a YAML file and the 1-based line of each key path in it.

    Raises ConfigError if the file cannot be read, is not YAML, has a duplicate key or holds no mapping.
    """
    try:
        text = read(path).decode()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text") from error
    if len(text) > MAX_YAML_CHARACTERS:
        raise ConfigError(f"{path}: has more than {MAX_YAML_CHARACTERS} characters")
    cached, lines = _parse(text, path)
    data = deepcopy(cached)
    if data is None:
        return {}, lines
    if not isinstance(data, dict):
        raise ConfigError(f"{path}:1: expected a mapping of settings, found {type(data).__name__}")
    return data, lines


class _TooDeep(Exception):
    """A YAML text is nested more than `MAX_DEPTH` levels deep."""

    def __init__(self, problem_mark: yaml.Mark) -> None:
        super().__init__(problem_mark)
        self.problem_mark = problem_mark


class _BoundedLoader(yaml.SafeLoader):
    """Stops at the first node that is too deep: the time to scan open brackets is quadratic in their number."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH + 1:  # a scalar stands below the last level
            raise _TooDeep(self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


@lru_cache(128)
def _parse(text: str, path: Path) -> tuple[Any, KeyLines]:
    """Parse YAML text; cached, since a base is read for each policy that extends it, and at reloads."""
    try:
        loader = _BoundedLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines = dict(_find_lines(node, (), path, {}))  # before construction, which changes the nodes
        return loader.construct_document(node), lines
    except _TooDeep as error:
        what = f"is nested too deeply: expected at most {MAX_DEPTH} levels"
        raise ConfigError(f"{path}:{error.problem_mark.line + 1}: {what}") from error
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


def _find_lines(
    node: yaml.Node, at: KeyPath, path: Path, visited: dict[int, bool]
) -> Iterator[tuple[KeyPath, int]]:
    """Yield each key path with its line. `visited` tells of nodes begun before, since aliases repeat nodes, whether
    they are done. Raises ConfigError for a node that holds itself."""
    yield at, node.start_mark.line + 1
    if id(node) in visited:
        if not visited[id(node)]:
            raise ConfigError(f"{path}:{node.start_mark.line + 1}: {to_dotted(at)}: it holds itself")
        return
    visited[id(node)] = False
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _find_lines(item, (*at, index), path, visited)
    if isinstance(node, yaml.MappingNode):
        yield from _find_key_lines(node, at, path, visited)
    visited[id(node)] = True


def _find_key_lines(
    node: yaml.MappingNode, at: KeyPath, path: Path, visited: dict[int, bool]
) -> Iterator[tuple[KeyPath, int]]:
    seen = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue  # refused when it is constructed
        line = key.start_mark.line + 1
        here = (*at, key.value)
        if key.value in seen:
            raise ConfigError(f"{path}:{line}: {to_dotted(here)}: this key stands twice")
        seen.add(key.value)
        yield from _find_lines(value, here, path, visited)
        yield here, line


def to_dotted(at: KeyPath) -> str:
    return ".".join(map(str, at))


def to_places(path: Path, lines: KeyLines) -> Places:
    """Return the place of each key path of one file; the empty path stands at the file's first line."""
    return {(): Place(path, 1)} | {at: Place(path, line) for at, line in lines.items()}


def find_place(places: Mapping[KeyPath, Place], at: KeyPath) -> Place:
    """Return the place of a key path, or that of its nearest parent."""
    return next(places[at[:n]] for n in range(len(at), -1, -1) if at[:n] in places)


def to_config_error(error: ValidationError, places: Places) -> ConfigError:
    """Return a pydantic error as a ConfigError, one line a mistake: `file:line: key path: expectation`."""
    return ConfigError("\n".join(_describe_problem(detail, places) for detail in list_problems(error)))


def list_problems(error: ValidationError) -> list[ErrorDetails]:
    """Return an error's details, but for a list that is only too short because an item of it is wrong."""
    details = error.errors()
    return [
        detail
        for detail in details
        if detail["type"] != "too_short"
        or not any(
            other is not detail and other["loc"][: len(detail["loc"])] == detail["loc"] for other in details
        )
    ]


def explain_problem(detail: ErrorDetails) -> str:
    """Return what was expected, in the words of YAML and JSON: a list and a mapping, no tuple and no dictionary."""
    expected = EXPECTED.get(detail["type"])
    return expected or detail["msg"].removeprefix("Value error, ").replace("Tuple should", "List should")


EXPECTED = {
    **dict.fromkeys(("tuple_type", "list_type", "set_type", "frozen_set_type"), "Input should be a list"),
    **dict.fromkeys(("dict_type", "model_type", "mapping_type"), "Input should be a mapping"),
}
"""What was expected, by the type of pydantic's error, if its own message speaks of Python's types."""


def _describe_problem(detail: ErrorDetails, places: Places) -> str:
    at = detail["loc"]
    # pydantic's location also has discriminators and union members, which are not in the file.
    key_path: KeyPath = ()
    for part in at:
        key_path = (*key_path, part) if (*key_path, part) in places else key_path
    if detail["type"] == "missing":
        key_path = (*key_path, at[-1])
    problem = explain_problem(detail)
    if detail["type"] == "extra_forbidden":
        problem = "unknown key"
    elif detail["type"] == "missing":
        problem = "this key is required"
    value = detail["input"]
    value_note = (
        f", found {mask_credentials(value)!r}"
        if isinstance(value, str | int | float | bool) and _may_show_value(detail)
        else ""
    )
    return f"{find_place(places, key_path)}: {to_dotted(key_path) or 'the file'}: {problem}{value_note}"


def mask_credentials(value: object) -> object:
    """Return a value without what may be a URL's name, password or query."""
    if not isinstance(value, str):
        return value
    masked = re.sub(r"^(\w+://)?.*@", r"\1***@", value, flags=re.DOTALL)
    return re.sub(r"(://[^?]*\?).*", r"\1***", masked, flags=re.DOTALL)


def _may_show_value(detail: ErrorDetails) -> bool:
    """True if the value cannot be a secret. The value of an unknown key may be: it may be a misspelt `key`."""
    return detail["type"] != "extra_forbidden" and not {"key", "headers", "query"} & set(detail["loc"])


def validate(model: type[M], data: Any, places: Places) -> M:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise to_config_error(error, places) from error
