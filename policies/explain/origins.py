"""Prints a policy's complete YAML with the file and line of each value, and compares two policies."""

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import yaml

from policies.loading.layers import BUILT_IN, Layer
from policies.loading.loader import Loaded
from policies.loading.yaml_files import At, Place, dotted, nearest

WIDEST = 60
"""Characters. Comments beside lines up to this width are aligned; longer values are cut in a comparison."""


class Nothing(Enum):
    """Marks a value that no file sets, unlike null, which is a value."""

    ABSENT = "absent"


def shown(loaded: Loaded) -> list[str]:
    """Return the lines of one YAML file that equals all of the policy's files together, defaults included.

    A comment on each line names where its key comes from. A calibrator's path is shown as written.
    """
    rows = list(_rows(_fields(loaded), (), loaded.layer))
    width = max((len(text) for text, _ in rows if len(text) <= WIDEST), default=0)
    return [f"{text:{width}}  # {comment}" for text, comment in rows]


def differences(one: Loaded, other: Loaded) -> list[str]:
    """Return a line for each key path at which two policies differ: `path: value -> value`."""
    return list(_differing(_fields(one), _fields(other), ()))


def _fields(loaded: Loaded) -> dict[str, Any]:
    return loaded.policy.model_dump(mode="json", exclude={"name"})


def _rows(fields: Mapping[str, Any], at: At, layer: Layer) -> Iterator[tuple[str, str]]:
    """Yield the YAML lines below a key path, each with its origin."""
    for key, value in fields.items():
        here = (*at, key)
        written = _written(here, layer.data)
        origin = "default" if written is Nothing.ABSENT else _told(nearest(layer.places, here))
        start = f"{'  ' * len(at)}{_flow(key)}:"
        if isinstance(value, dict) and isinstance(written, dict | Nothing):
            yield start, origin
            yield from _rows(value, here, layer)
        else:
            as_written = isinstance(value, dict | list) and written is not Nothing.ABSENT
            yield f"{start} {_flow(written if as_written else value)}", origin


def _written(at: At, data: Any) -> Any:
    """Return what the files set at a key path, or `Unset.ABSENT`."""
    for key in at:
        data = data.get(key, Nothing.ABSENT) if isinstance(data, dict) else Nothing.ABSENT
    return data


def _told(place: Place) -> str:
    return f"built in, {place.path.name}:{place.line}" if place.path.parent == BUILT_IN else str(place)


def _differing(one: Any, other: Any, at: At) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in dict.fromkeys([*one, *other]):
            yield from _differing(one.get(key, Nothing.ABSENT), other.get(key, Nothing.ABSENT), (*at, key))
    elif one != other:
        yield f"{dotted(at)}: {_short(one)} -> {_short(other)}"


def _short(value: Any) -> str:
    text = value.value if isinstance(value, Nothing) else _flow(value)
    return text if len(text) <= WIDEST else f"{text[:WIDEST]}..."


def _flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    text = _dumped(value, allow_unicode=True)
    return (
        text if len(text.splitlines()) < 2 else _dumped(value, default_style='"')
    )  # double quotes escape line breaks


def _dumped(value: Any, **style: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), **style)
    return text.removesuffix("\n").removesuffix("\n...")
