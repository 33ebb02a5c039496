"""Reads the body's `smallfirst` field: a request's options for the gateway itself."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.errors import invalid
from gateway.wire.body_types import Body

Tag = Annotated[str, Field(max_length=256)]


class SmallfirstField(BaseModel):
    """The body's `smallfirst` field. It is removed before any upstream sees the body."""

    model_config = ConfigDict(extra="forbid", strict=True)

    policy: str | None = None
    override: dict[str, Any] | None = None
    context: Any = None
    private: bool = False
    key: Annotated[str, Field(max_length=256)] | None = None
    tags: Annotated[dict[Tag, Tag], Field(max_length=16)] = {}


_NO_SMALLFIRST_FIELD = SmallfirstField()


def read_smallfirst_field(body: Body) -> SmallfirstField:
    """Return the field; an empty one if the body has none. Raises ApiError that names the path."""
    if body.get("smallfirst") is None:
        return _NO_SMALLFIRST_FIELD
    try:
        return SmallfirstField.model_validate(body["smallfirst"])
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(["smallfirst", *map(str, detail["loc"])])
        what = detail["msg"] if detail["loc"] else "must be an object"
        raise invalid(
            f"{where}: {what}; known keys: {', '.join(SmallfirstField.model_fields)}", where
        ) from error
