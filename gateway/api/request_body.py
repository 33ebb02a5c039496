"""A request's bytes -> a checked body. What we read is checked here; the rest is for the upstream to judge."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from gateway.errors import ApiError, invalid
from gateway.wire.body_types import Body
from gateway.wire.nesting import TooDeep, read_json
from gateway.wire.vendor_fields import UNWATCHABLE, present_fields

JSON_TYPE_NAMES: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
}

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientGone(Exception):
    """The client went away."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole request body. Raises ApiError past `limit` bytes, ClientGone."""
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
    """The body's object. Raises ApiError."""
    try:
        body = read_json(raw)
    except orjson.JSONDecodeError as error:
        raise invalid(f"the request body is not valid JSON: {error}", code="invalid_json") from error
    except TooDeep as error:
        raise invalid(str(error), error.field) from error
    if not isinstance(body, dict):
        raise invalid(f"the request body must be a JSON object, not {_type_name(body)}", code="invalid_json")
    return body


CHECKED_FIELDS: dict[str, tuple[type, str]] = {
    "model": (str, "a string"),
    "stream": (bool, "true or false"),
    "stream_options": (dict, "an object"),
    "n": (int, "an integer"),
    "max_tokens": (int, "an integer"),
    "max_completion_tokens": (int, "an integer"),
    "top_logprobs": (int, "an integer"),
    "tools": (list, "a list"),
}
"""The fields that we act on ourselves, whichever the endpoint."""


def check_common(body: Body) -> None:
    for key, value in body.items():
        if key in CHECKED_FIELDS and value is not None:
            check_type(key, value, *CHECKED_FIELDS[key])
    if not body.get("model"):
        raise invalid("model is required", "model", "missing_required_parameter")


def check_chat(body: Body) -> None:
    check_common(body)
    if body.get("logprobs") is not None:
        check_type("logprobs", body["logprobs"], bool, "true or false")
    messages = body.get("messages")
    if messages is None:
        raise invalid("messages is required", "messages", "missing_required_parameter")
    if not isinstance(messages, list) or not messages:
        raise invalid("messages must be a list of at least one message", "messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            where = f"messages[{index}]"
            raise invalid(f"{where} must be an object with a role, not {_type_name(message)}", where)


def check_completions(body: Body) -> None:
    check_common(body)
    if body.get("logprobs") is not None:
        check_type("logprobs", body["logprobs"], int, "an integer")
    if not isinstance(body.get("prompt"), str | list):
        raise invalid("prompt is required: a string or a list", "prompt", "missing_required_parameter")


def check_embeddings(body: Body) -> None:
    check_common(body)
    if not isinstance(body.get("input"), str | list):
        raise invalid("input is required: a string or a list", "input", "missing_required_parameter")
    if body.get("stream"):
        raise invalid("embeddings do not stream", "stream")


def is_judgeable(body: Body) -> bool:
    """Whether a draft of the answer would be one text whose log-probabilities mean something."""
    if not UNWATCHABLE.isdisjoint(body) and any(
        body[name] is not False for name in present_fields(body, UNWATCHABLE)
    ):
        return False
    if body.get("audio") or (body.get("n") or 1) != 1:
        return False
    if "prompt" in body:
        return isinstance(body["prompt"], str) and not body.get("echo") and (body.get("best_of") or 1) == 1
    return True


def check_type(key: str, value: Any, kind: type, expected: str) -> None:
    """Raises ApiError for a value of another kind than JSON's `kind`; `key` is its path in the body."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise invalid(f"{key} must be {expected}, not {_type_name(value)}", key)


def _type_name(value: Any) -> str:
    return JSON_TYPE_NAMES.get(type(value), "null")
