"""Types of bodies and chunks: plain JSON values."""

from typing import Any, Literal

import orjson

Endpoint = Literal["chat", "completions", "embeddings"]


Body = dict[str, Any]


Event = Body | bytes
"""A chunk for the client: parsed, or the raw payload of a plain chunk (see `fast_chunks`)."""


def read_event(event: Event) -> Body:
    if isinstance(event, dict):
        return event
    body: Body = orjson.loads(event)
    return body
