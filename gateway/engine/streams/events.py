"""Reads an upstream's stream, and parses its events."""

import time
from typing import Any

import orjson

from gateway.exchange.call import Call
from gateway.exchange.exchange import Exchange
from gateway.upstreams.transport.transport import Garbage, Response, TransportError
from gateway.wire.body_types import Body
from gateway.wire.nesting import TooDeep, read_json

DONE = b"[DONE]"
"""The data of a stream's last event."""
END_GRACE_S = 1.0
"""Seconds that a server may take to end its response after it has ended the answer."""


async def read_next(response: Response, exchange: Exchange, call: Call, done: bool) -> bytes:
    """Return the response's next read, empty at its end. The time waited counts as the upstream's.

    A response that breaks off after the answer's end does no harm. After `done`, only the end of the bytes is waited
    for, and briefly, so that the connection can be used again. Raises TransportError.
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
    """Parse an event. Raises Garbage if it is no JSON object, or if it is the server's error."""
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
