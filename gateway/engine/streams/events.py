"""An upstream's stream, read by read, and the JSON of its events."""

import time
from typing import Any

import orjson

from gateway.exchange.exchange import Call, Exchange
from gateway.upstreams.transport.transport import Garbage, Response, TransportError
from gateway.wire.body_types import Body
from gateway.wire.nesting import TooDeep, read_json

END_GRACE_S = 1.0
"""Seconds that a server may take to end its response after it has ended the answer."""


async def read_next(response: Response, exchange: Exchange, call: Call, done: bool) -> bytes:
    """The response's next read, nothing at its end; the time waited for it is the upstream's, not ours.

    Once the answer is finished, breaking off does no harm. Once it is `done`, only the end of the bytes is still
    to come: it is waited for briefly, so that the connection can be used again.
    """
    began = time.perf_counter()
    try:
        return await response.next(END_GRACE_S if done else None)
    except TransportError:
        if done or call.finish is not None:
            return b""
        raise
    finally:
        exchange.upstream_wait_s += time.perf_counter() - began


def parse_event(payload: bytes) -> Body:
    """A chunk's JSON. Raises Garbage where it is none, or where the server sends its error as an event."""
    try:
        event: Any = read_json(payload)
    except orjson.JSONDecodeError as error:
        raise Garbage(f"an event is not JSON: {payload[:80]!r}") from error
    except TooDeep as error:
        raise Garbage(f"an event: {error}") from error
    if not isinstance(event, dict):
        raise Garbage(f"an event is not an object: {payload[:80]!r}")
    if "error" in event and not event.get("choices"):
        detail = event["error"]
        message = detail.get("message") if isinstance(detail, dict) else detail
        raise Garbage(f"the server broke off: {str(message)[:300]}")
    return event
