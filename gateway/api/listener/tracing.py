"""Gives each answer an `x-request-id`, and the upstream calls of a request its trace headers."""

import secrets
from collections.abc import Awaitable, Iterable, MutableMapping
from typing import Any

from gateway.api.writers import Send
from gateway.upstreams.transport.trace import set_trace_headers


def trace_request(scope: MutableMapping[str, Any], send: Send) -> Send:
    """Return a `send` that adds `x-request-id` to the answer: the client's own, or else the exchange's.

    What this task sends to upstreams from now on carries the client's trace headers.
    """
    request_id = set_trace_headers(scope["headers"])

    def send_traced(message: MutableMapping[str, Any]) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            message["headers"] = [*headers, (b"x-request-id", request_id or _choose_id(headers))]
        return send(message)

    return send_traced


def _choose_id(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the exchange's id among an answer's headers, else one that is made up."""
    for name, value in headers:
        if name == b"x-smallfirst-id":
            return value
    return f"req-{secrets.token_hex(10)}".encode()
