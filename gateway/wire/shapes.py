"""What bodies and chunks are in this code: plain JSON values, as they were read."""

from typing import Any, Literal

import orjson

Endpoint = Literal["chat", "completions", "embeddings"]


Body = dict[str, Any]


Event = Body | bytes
"""A chunk on its way to the client: as it was read, or the payload of a plain one (see `chunks`)."""


def read_event(event: Event) -> Body:
    if isinstance(event, dict):
        return event
    body: Body = orjson.loads(event)
    return body
