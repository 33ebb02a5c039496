"""YAML files -> validated policies. An error names file, line, path in the file and what was expected."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from routers.calibration import Calibrator

from .schema import Policy

BUILT_IN = Path(str(resources.files("policies")))
STOCK_CALIBRATOR = BUILT_IN / "calibrators" / "smollm2-135m-instruct.llamacpp.json"

M = TypeVar("M", bound=BaseModel)
At = tuple[str | int, ...]
Lines = dict[At, int]


class ConfigError(ValueError):
    """A configuration that can't be used; its text is for the person who wrote it."""


def read_yaml(path: Path) -> tuple[dict[str, Any], Lines]:
    """The mapping in a YAML file and the 1-based line of each path in it.

    Raises ConfigError where the file can't be read, is not YAML, names a key twice or is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text") from error
    node, data = _parsed(text, path)
    lines = dict(_lines(node, (), path)) if node else {}
    if data is None:
        return {}, lines
    if not isinstance(data, dict):
        raise ConfigError(f"{path}:1: expected a mapping of settings, found {type(data).__name__}")
    return data, lines


def _parsed(text: str, path: Path) -> tuple[yaml.Node | None, Any]:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: is not YAML: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{path}:{line}: is not YAML: {error.reason}") from error
    except ValueError as error:  # what looks like a date or a number and is none
        raise ConfigError(f"{path}:1: is not YAML: {error}") from error


def _lines(
    node: yaml.Node, at: tuple[str | int, ...], path: Path
) -> Iterator[tuple[tuple[str | int, ...], int]]:
    yield at, node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _lines(item, (*at, index), path)
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise ConfigError(
                    f"{path}:{line}: {'.'.join(map(str, (*at, key.value)))}: this key stands twice"
                )
            seen.add(key.value)
            yield from _lines(value, (*at, key.value), path)
            yield (*at, key.value), line


def explain(error: ValidationError, path: Path, lines: Lines) -> ConfigError:
    """A pydantic error as one line for each mistake: file:line: path: expectation."""
    return ConfigError("\n".join(_explain_one(detail, path, lines) for detail in error.errors()))


def _explain_one(detail: ErrorDetails, path: Path, lines: Lines) -> str:
    at = detail["loc"]
    # Discriminators and union members stand in pydantic's location but not in the file.
    known: At = ()
    for depth, part in enumerate(at, 1):
        known = (*known, part) if depth == len(at) or (*known, part) in lines else known
    line = next((lines[known[:n]] for n in range(len(known), -1, -1) if known[:n] in lines), 1)
    what = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        what = "unknown key"
    elif detail["type"] == "missing":
        what = "this key is required"
    found = detail["input"]
    shown = f", found {found!r}" if isinstance(found, str | int | float | bool) and _harmless(detail) else ""
    return f"{path}:{line}: {'.'.join(map(str, known)) or 'the file'}: {what}{shown}"


def _harmless(detail: ErrorDetails) -> bool:
    """Whether the value is no secret: an unknown key may be a misspelt `key`."""
    return detail["type"] != "extra_forbidden" and not {"key", "headers", "query"} & set(detail["loc"])


def load_policy(path: Path) -> Policy:
    """The policy in a file; its name is the file's. Raises ConfigError."""
    data, lines = read_yaml(path)
    if "name" in data:
        raise ConfigError(
            f"{path}:{lines.get(('name',), 1)}: name: unknown key; a policy is named by its file"
        )
    data["name"] = path.stem
    router = data.get("router")
    if isinstance(router, dict) and isinstance(router.get("calibrator"), str):
        line = lines.get(("router", "calibrator"), 1)
        router["calibrator"] = load_calibrator(router["calibrator"], path.parent, f"{path}:{line}")
    return validated(Policy, data, path, lines)


def load_calibrator(name: str, folder: Path, asked_by: str) -> Calibrator:
    """`stock`, or a path to a calibrator's JSON beside the policy. Raises ConfigError."""
    path = STOCK_CALIBRATOR if name == "stock" else folder / name
    try:
        return Calibrator.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{asked_by}: router.calibrator: {path}: {error.strerror}; expected `stock` or a file"
        ) from error
    except ValidationError as error:
        raise explain(error, path, _lines_of_json(path)) from error


def _lines_of_json(path: Path) -> Lines:
    """JSON is YAML, but for what is not even JSON."""
    try:
        return read_yaml(path)[1]
    except ConfigError:
        return {}


def validated(model: type[M], data: Any, path: Path, lines: Lines) -> M:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise explain(error, path, lines) from error


def load_policies(folder: Path | None = None) -> dict[str, Policy]:
    """Built-in policies and those of `folder`, which win over built-in ones of the same name."""
    paths = sorted(BUILT_IN.glob("*.yaml"))
    if folder is not None:
        if not folder.is_dir():
            raise ConfigError(f"policies.folder: {folder} is not a folder")
        paths += sorted(folder.glob("*.yaml"))
    return {policy.name: policy for policy in map(load_policy, paths)}
