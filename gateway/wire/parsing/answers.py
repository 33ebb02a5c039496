"""Reads the JSON of an upstream's answer: of a plain response, or of one event of a stream."""

from typing import Any

import orjson

from .content_parts import join_parts
from .nesting import read_json
from .odd_json import repair_answer


def read_answer(raw: bytes) -> tuple[Any, bytes]:
    """Return the value of the JSON that an upstream sent, and its text. Raises orjson.JSONDecodeError, TooDeep.

    What some servers send instead of JSON is mended (see `repair_answer`), and content in parts becomes text. The text
    is `raw` itself unless something had to be mended.
    """
    try:
        value = read_json(raw)
    except orjson.JSONDecodeError:
        raw = repair_answer(raw)
        value = read_json(raw)
    return value, orjson.dumps(value) if _join_all_parts(value) else raw


def may_need_mending(event: bytes) -> bool:
    """Return whether `read_answer` may have to mend an event that nobody parses. Content in parts is not looked for."""
    return any(sign in event for sign in (b"\\ud", b"\\uD", b"Infinity", b"NaN"))


def _join_all_parts(value: Any) -> bool:
    """Join the content parts of each choice, and return whether there were any. Other shapes are left to the reader."""
    joined = False
    try:
        for choice in value.get("choices") or ():
            message = choice.get("delta") or choice.get("message")
            if message and isinstance(message.get("content"), list):
                joined |= join_parts(message)
    except (AttributeError, TypeError):
        pass
    return joined
