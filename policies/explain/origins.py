"""Prints a policy's complete YAML with the file and line of each value, and compares two policies."""

from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from policies.loading.layers import BUILT_IN
from policies.loading.loader import LoadedPolicy
from policies.loading.trained_files import GENERIC_CALIBRATOR
from policies.loading.yaml_files import KeyPath, Place, find_place, to_dotted

MAX_WIDTH = 60
"""Characters. Comments beside lines up to this width are aligned; longer values are cut in a comparison."""


class Unset(Enum):
    """Marks a value that no file sets, unlike null, which is a value."""

    ABSENT = "absent"


def to_yaml_lines(loaded: LoadedPolicy) -> list[str]:
    """Return the lines of one YAML file that equals all of the policy's files together, defaults included.

    A comment on each line names where its key comes from. A calibrator's path is shown as written; for `stock`, the
    comment names the file too.
    """
    rows = list(_list_rows(_dump_fields(loaded), (), loaded))
    width = max((len(text) for text, _ in rows if len(text) <= MAX_WIDTH), default=0)
    return [f"{text:{width}}  # {comment}" for text, comment in rows]


def compare_policies(first: LoadedPolicy, second: LoadedPolicy) -> list[str]:
    """Return a line for each key path at which two policies differ: `path: value -> value`."""
    return list(_compare(_dump_fields(first), _dump_fields(second), ()))


def _dump_fields(loaded: LoadedPolicy) -> dict[str, Any]:
    return loaded.policy.model_dump(mode="json", exclude={"name"})


def _list_rows(fields: Mapping[str, Any], at: KeyPath, loaded: LoadedPolicy) -> Iterator[tuple[str, str]]:
    """Yield the YAML lines below a key path, each with its origin."""
    for key, value in fields.items():
        here = (*at, key)
        written = _find_written(here, loaded.layer.data)
        origin = (
            "default" if written is Unset.ABSENT else _format_place(find_place(loaded.layer.places, here))
        )
        if written == "stock" and here in loaded.trained:
            origin += f"; {_format_file(loaded.trained[here])}"
        start = f"{'  ' * len(at)}{_format_flow(key)}:"
        if isinstance(value, dict) and isinstance(written, dict | Unset):
            yield start, origin
            yield from _list_rows(value, here, loaded)
        else:
            as_written = isinstance(value, dict | list) and written is not Unset.ABSENT
            yield f"{start} {_format_flow(written if as_written else value)}", origin


def _find_written(at: KeyPath, data: Any) -> Any:
    """Return what the files set at a key path, or `Unset.ABSENT`."""
    for key in at:
        data = data.get(key, Unset.ABSENT) if isinstance(data, dict) else Unset.ABSENT
    return data


def _format_place(place: Place) -> str:
    return f"built in, {place.path.name}:{place.line}" if place.path.parent == BUILT_IN else str(place)


def _format_file(path: Path) -> str:
    if path.is_relative_to(BUILT_IN):
        path = path.relative_to(BUILT_IN)
    return f"{path} (uncalibrated)" if path.name == GENERIC_CALIBRATOR.name else str(path)


def _compare(first: Any, second: Any, at: KeyPath) -> Iterator[str]:
    if isinstance(first, dict) and isinstance(second, dict):
        for key in dict.fromkeys([*first, *second]):
            yield from _compare(first.get(key, Unset.ABSENT), second.get(key, Unset.ABSENT), (*at, key))
    elif first != second:
        yield f"{to_dotted(at)}: {_format_short(first)} -> {_format_short(second)}"


def _format_short(value: Any) -> str:
    text = value.value if isinstance(value, Unset) else _format_flow(value)
    return text if len(text) <= MAX_WIDTH else f"{text[:MAX_WIDTH]}..."


def _format_flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    text = _dump_yaml(value, allow_unicode=True)
    return (
        text if len(text.splitlines()) < 2 else _dump_yaml(value, default_style='"')
    )  # double quotes escape line breaks


def _dump_yaml(value: Any, **style: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), **style)
    return text.removesuffix("\n").removesuffix("\n...")
