"""Reads typed fields of a request. Errors name the path, the expected type and the given type."""

from typing import TypeVar

from gateway.errors import invalid
from gateway.wire.body_types import Body
from gateway.wire.validation import JSON_TYPE_NAMES, check_type

T = TypeVar("T")


def optional(holder: Body, key: str, kind: type[T], where: str = "") -> T | None:
    """Return the value of `key`; None if it is absent or null. `where` is the path of `holder`, "" for the body.

    Raises ApiError for a value of another type.
    """
    value: T | None = holder.get(key)
    if value is not None:
        check_type(path(where, key), value, kind, JSON_TYPE_NAMES[kind])
    return value


def required(holder: Body, key: str, kind: type[T], where: str = "") -> T:
    """Return the value of `key`. Raises ApiError if it is absent, null or of another type."""
    value = optional(holder, key, kind, where)
    if value is None:
        at = path(where, key)
        raise invalid(f"{at} is required", at, "missing_required_parameter")
    return value


def path(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
