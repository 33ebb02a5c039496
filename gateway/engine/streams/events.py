"""Parses the events of an upstream's stream."""

import orjson

from gateway.upstreams.transport.transport import Garbage
from gateway.wire.body_types import Body
from gateway.wire.parsing.answers import read_answer
from gateway.wire.parsing.nesting import TooDeep

DONE = b"[DONE]"
"""The data of a stream's last event."""
END_GRACE_S = 1.0
"""Seconds that a server may take to end its response after it has ended the answer."""


def parse_event(payload: bytes) -> Body:
    """Parse an event. Raises Garbage like `read_event`."""
    return read_event(payload)[0]


def read_event(payload: bytes) -> tuple[Body, bytes]:
    """Return an event, and its text as `read_answer` gives it. Raises Garbage if it is no JSON object, or if it is the
    server's error."""
    try:
        event, text = read_answer(payload)
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
    return event, text
