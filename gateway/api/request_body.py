"""Reads a request's body and parses its JSON object."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from gateway.errors import ApiError, invalid
from gateway.wire.body_types import Body
from gateway.wire.nesting import MIN_DEEP_BYTES, TooDeep, read_json
from gateway.wire.validation import type_name

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientGone(Exception):
    """The client disconnected before its request was read or answered."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """Return the request's body. Raises ApiError if it has more than `limit` bytes, ClientGone if the client left."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        parts, size = [body], len(body)
        while message.get("more_body") and size <= limit:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
        body = b"".join(parts)
    if len(body) > limit:
        raise ApiError(413, "body_too_large", f"the request body is over the limit of {limit} bytes")
    return body


def parse_body(raw: bytes) -> Body:
    """Return the JSON object in `raw`. Raises ApiError if it is none, or is nested too deeply."""
    try:
        body = orjson.loads(raw) if len(raw) <= MIN_DEEP_BYTES else read_json(raw)
    except orjson.JSONDecodeError as error:
        raise invalid(f"the request body is not valid JSON: {error}", code="invalid_json") from error
    except TooDeep as error:
        raise invalid(str(error), error.field) from error
    if not isinstance(body, dict):
        raise invalid(f"the request body must be a JSON object, not {type_name(body)}", code="invalid_json")
    return body
