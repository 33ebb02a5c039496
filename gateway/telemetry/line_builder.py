"""Compiles functions that build record lines from the fields of their schema."""

from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from policies.records.schema import Line

Source = TypeVar("Source")

NOTHING: Mapping[str, Any] = MappingProxyType({})


def compile_builder(
    model: type[Line],
    source: type[Source],
    sources: Mapping[str, str | Callable[[Source], object]] = NOTHING,
    *,
    converters: Mapping[str, Callable[[Any], object]] = NOTHING,
    constants: Collection[str] = (),
    absent: Collection[str] = (),
) -> Callable[[Source], dict[str, Any]]:
    """Return a function that builds a line of `model` from a `source` as a dict, in the order of the schema.

    A field is read from the source's attribute of the same name, unless `sources` has for it another attribute's
    dotted path, or a function of the source. What is read from an attribute passes through the field's converter,
    if it has one. Fields in `constants` have the schema's default; fields in `absent` are left out. Raises TypeError
    if a field has no source, or if a name given here is not a field.

    The function is compiled from one dict display, as `dataclasses` compiles `__init__`: it runs for every exchange,
    and a loop over getters takes nearly twice the time.
    """
    _check_keys(model, [*sources, *converters, *constants, *absent])
    names: dict[str, Any] = {}
    entries = []
    for key, field in model.model_fields.items():
        path = sources.get(key, key)
        if key in absent:
            continue
        if key in constants:
            names[f"default_{key}"] = field.default
            entries.append(f"{key!r}: default_{key}")
        elif not isinstance(path, str):
            names[f"compute_{key}"] = path
            entries.append(f"{key!r}: compute_{key}(source)")
        else:
            _check_attribute(model, key, source, path)
            names[f"convert_{key}"] = converters.get(key)
            entries.append(
                f"{key!r}: convert_{key}(source.{path})" if key in converters else f"{key!r}: source.{path}"
            )
    build: Callable[[Source], dict[str, Any]] = eval(f"lambda source: {{{', '.join(entries)}}}", names)  # noqa: S307
    return build


def _check_keys(model: type[Line], keys: Iterable[str]) -> None:
    unknown = set(keys) - model.model_fields.keys()
    if unknown:
        raise TypeError(f"{model.__name__} has no field {', '.join(sorted(unknown))}")


def _check_attribute(model: type[Line], key: str, source: type, path: str) -> None:
    name = path.partition(".")[0]
    if not hasattr(source, name) and name not in getattr(source, "__dataclass_fields__", ()):
        raise TypeError(
            f"{model.__name__}.{key} has no source: {source.__name__} has no attribute {name}, "
            f"and the field is given no other source"
        )
