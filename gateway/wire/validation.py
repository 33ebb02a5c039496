"""Checks the fields of a request that the gateway reads; the rest is for the upstream to judge."""

from typing import Any

import orjson

from gateway.errors import invalid

from .body_types import Body
from .vendor_fields import UNWATCHABLE, present_fields

JSON_TYPE_NAMES: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    orjson.Fragment: "an integer of more than 64 bits",
    float: "a number",
}


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
            raise invalid(f"{where} must be an object with a role, not {type_name(message)}", where)


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
        raise invalid(f"{key} must be {expected}, not {type_name(value)}", key)


def type_name(value: Any) -> str:
    return JSON_TYPE_NAMES.get(type(value), "null")
