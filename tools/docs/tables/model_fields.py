"""Pydantic models and enumerations -> tables. Meanings are the string literals that stand under the members."""

import ast
import inspect
import textwrap
import types
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, HttpUrl, SecretStr
from pydantic.fields import FieldInfo

from gateway.settings import Settings
from policies.schema.policy import Policy
from policies.schema.split import Split
from routers.confidence.calibration import Calibrator
from routers.fragments.passage_filter import PassageFilter
from routers.judges.rubric import Rubric
from routers.plan import Reason
from routers.router import Router
from routers.strategies.difficulty import Scorer
from tools.docs.table import code, table

HEAD = ("key", "type", "default", "meaning")
NAMES: dict[Any, str] = {
    Any: "value",
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    Path: "path",
    HttpUrl: "URL",
    SecretStr: "secret",
    Calibrator: "`stock` or path",
    Scorer: "path",
    Rubric: "rubric's name",
}


def meanings(cls: type) -> dict[str, str]:
    """What stands under each member of a class, inherited members included."""
    found: dict[str, str] = {}
    for parent in reversed(cls.__mro__):
        if parent.__module__.partition(".")[0] in ("gateway", "policies", "routers"):
            found |= _own_meanings(parent)
    return found


def _own_meanings(cls: type) -> dict[str, str]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    found = {}
    for statement, below in pairwise(body):
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            for name in _assigned(statement):
                found[name] = " ".join(str(below.value.value).split())
    return found


def _assigned(statement: ast.stmt) -> Iterator[str]:
    targets: list[ast.expr] = []
    if isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    elif isinstance(statement, ast.Assign):
        targets = statement.targets
    yield from (target.id for target in targets if isinstance(target, ast.Name))


def settings_tables() -> str:
    """Every key of smallfirst.yaml; then those of the mappings that stand in several places."""
    found = _mappings(Settings)
    rows = [row for model, at in found.items() if len(at) == 1 for row in _rows(model, at[0])]
    parts = [table(HEAD, rows)]
    for model, paths in found.items():
        if len(paths) > 1:
            parts += [f"{' and '.join(map(code, paths))}: {model.__doc__}", fields_table(model)]
    return "\n\n".join(parts)


def policy_tables() -> str:
    return fields_tables(Policy, ("name",))


def split_table() -> str:
    return fields_tables(Split, ("name",))


def fields_tables(model: type[BaseModel], but: Iterable[str] = ()) -> str:
    """The fields of a model and of the mappings in it, whose keys are paths; strategies and what is trained have
    pages of their own."""
    found = {inner: at[0] for inner, at in _mappings(model).items()}
    return table(HEAD, [row for inner, at in found.items() for row in _rows(inner, at, but)])


def reasons_table() -> str:
    said = meanings(Reason)
    return table(["reason", "meaning"], [[code(reason), said[reason.name]] for reason in Reason])


def fields_table(model: type[BaseModel], but: Iterable[str] = ()) -> str:
    return table(HEAD, _rows(model, "", but))


def filter_table() -> str:
    return table(HEAD, _rows(PassageFilter, "filter"))


def _rows(model: type[BaseModel], at: str, but: Iterable[str] = ()) -> Iterator[list[str]]:
    said = meanings(model)
    for name, field in model.model_fields.items():
        path = f"{at}.{name}".lstrip(".")
        if name not in but:
            value = "required" if name == "kind" else default(field)
            yield [code(path), type_name(field), value, said[name]]


def _mappings(model: type[BaseModel], at: str = "") -> dict[type[BaseModel], list[str]]:
    """Each mapping below `model` and its paths, in the order of the file."""
    found: dict[type[BaseModel], list[str]] = {model: [at]}
    for name, field in model.model_fields.items():
        for inner, mark in _inner(field.annotation):
            if inner in NAMES or issubclass(inner, Router):
                continue
            below = _mappings(inner, f"{at}.{name}{mark}".lstrip("."))
            for key, paths in below.items():
                found.setdefault(key, []).extend(paths)
    return found


def _inner(annotation: Any, mark: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, mark
    for part in get_args(annotation):
        yield from _inner(part, "[]" if get_origin(annotation) is tuple else mark)


def type_name(field: FieldInfo) -> str:
    return _type_name(field.annotation, field.metadata)


def _type_name(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation in NAMES:
        return " ".join([NAMES[annotation], ", ".join(_bounds(metadata))]).strip()
    if origin is Annotated:
        return _type_name(parts[0], parts[1:])
    if origin is Literal:
        return " or ".join(map(code, parts))
    if origin in (Union, types.UnionType):
        named = dict.fromkeys(_type_name(part) for part in parts if part is not types.NoneType)
        return " or ".join([*named, *(["null"] if types.NoneType in parts else [])])
    if origin is tuple:
        return f"list of {_several(parts[0])}"
    if origin is dict:
        return f"mapping of {_several(parts[1])}"
    return "mapping"


def _several(annotation: Any) -> str:
    name, *bounds = _type_name(annotation).split(" ", 1)
    return " ".join([f"{name}s", *bounds])


def _bounds(metadata: Iterable[Any]) -> Iterator[str]:
    for bound in metadata:
        match bound:
            case FieldInfo():
                yield from _bounds(bound.metadata)
            case annotated_types.Gt():
                yield f"> {bound.gt}"
            case annotated_types.Ge():
                yield f"≥ {bound.ge:g}"
            case annotated_types.Le():
                yield f"≤ {bound.le:g}"


def default(field: FieldInfo) -> str:
    value = field.default
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "see right"
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, bool) or value is None:
        return code({True: "true", False: "false", None: "null"}[value])
    if value in ((), {}):
        return "empty"
    if isinstance(value, tuple):
        return code(f"[{', '.join(map(str, value))}]")
    return code(f"{value:g}" if isinstance(value, float) else value)
