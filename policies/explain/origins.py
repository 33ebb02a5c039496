"""A policy as it came to be: its whole YAML with the file and line that says each part, and how two differ."""

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import yaml

from policies.loading.layers import BUILT_IN, Layer
from policies.loading.loader import Loaded
from policies.loading.yaml_files import At, Place, dotted, nearest

WIDEST = 60
"""Characters: comments beside shorter lines are aligned, and longer values are cut in a comparison."""


class Nothing(Enum):
    """What stands where nothing does; null is something."""

    ABSENT = "absent"


def shown(loaded: Loaded) -> list[str]:
    """The lines of a YAML file that says by itself what the policy's files say together, defaults included.

    A comment names where each key comes from. A calibrator's path is as its file wrote it.
    """
    rows = list(_rows(_fields(loaded), (), loaded.layer))
    width = max((len(text) for text, _ in rows if len(text) <= WIDEST), default=0)
    return [f"{text:{width}}  # {comment}" for text, comment in rows]


def differences(one: Loaded, other: Loaded) -> list[str]:
    """A line for each path at which two policies differ: `path: value -> value`."""
    return list(_differing(_fields(one), _fields(other), ()))


def _fields(loaded: Loaded) -> dict[str, Any]:
    return loaded.policy.model_dump(mode="json", exclude={"name"})


def _rows(fields: Mapping[str, Any], at: At, layer: Layer) -> Iterator[tuple[str, str]]:
    """The lines below a path, each with where it comes from."""
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
    """What the files say at a path."""
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
    """A value as YAML on one line."""
    text = _dumped(value, allow_unicode=True)
    return (
        text if len(text.splitlines()) < 2 else _dumped(value, default_style='"')
    )  # which escapes line breaks


def _dumped(value: Any, **style: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), **style)
    return text.removesuffix("\n").removesuffix("\n...")
