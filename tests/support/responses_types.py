"""The official client's types, held against what the gateway makes."""

from typing import Any

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
BEYOND = {"store", "smallfirst", "name", "bytes"}
"""Fields that the types lack: the API sends `store`, the `name` of done arguments and bytes of deltas' tokens, we
`smallfirst`."""


def typed_event(event: dict[str, Any]) -> Any:
    """The event as the client's type of that name, strictly; no field of its own but those known."""
    read = EVENT.validate_python(event, strict=True)
    assert read.type == event["type"]
    assert set(unknown(read)) <= BEYOND
    return read


def typed_response(response: dict[str, Any]) -> Response:
    read = Response.model_validate(response, strict=True)
    assert set(unknown(read)) <= BEYOND
    return read


def unknown(model: Any) -> list[str]:
    """The names of the fields that no type knows, at any depth."""
    if isinstance(model, list):
        return [name for one in model for name in unknown(one)]
    if not isinstance(model, BaseModel):
        return []
    inner = [name for field in type(model).model_fields for name in unknown(getattr(model, field))]
    return [*(model.model_extra or {}), *inner]
