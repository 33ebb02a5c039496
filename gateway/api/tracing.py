"""Gives each answer an `x-request-id`, and the upstream calls of a request its trace headers."""

import secrets
from collections.abc import Awaitable, MutableMapping
from typing import Any

from gateway.upstreams.transport.trace import get_request_id, set_trace_headers

from .writers import Send


def trace_request(scope: MutableMapping[str, Any], send: Send) -> Send:
    """Return a `send` that adds `x-request-id` to the answer: the client's own, or else the exchange's.

    What this task sends to upstreams from now on carries the client's trace headers.
    """
    set_trace_headers(scope["headers"])
    request_id = get_request_id()

    def send_traced(message: MutableMapping[str, Any]) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            own = request_id or _find_exchange_id(headers) or f"req-{secrets.token_hex(10)}".encode()
            message["headers"] = [*headers, (b"x-request-id", own)]
        return send(message)

    return send_traced


def _find_exchange_id(headers: Any) -> bytes | None:
    return next((value for name, value in headers if name == b"x-smallfirst-id"), None)
