"""Handles unexpected exceptions: an error for the client, a traceback in the log, a count in the metrics."""

import logging
from collections.abc import Awaitable, MutableMapping
from typing import Any

from gateway.engine.engine import AccountedFault
from gateway.errors import ApiError, internal_error
from gateway.telemetry.metrics import Metrics
from gateway.wire import sse

from .writers import Send, respond_error

log = logging.getLogger(__name__)


class ResponseTracker:
    """Forwards an ASGI response, and tracks whether it has begun and ended."""

    __slots__ = ("_send", "begun", "ended", "streams")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False
        self.ended = False
        self.streams = False
        """Whether the response is a stream of server-sent events."""

    def __call__(self, message: MutableMapping[str, Any]) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self.begun = True
            self.streams = any(
                name.lower() == b"content-type" and value.startswith(b"text/event-stream")
                for name, value in message.get("headers", ())
            )
        elif not message.get("more_body"):
            self.ended = True
        return self._send(message)


class InternalErrors:
    """Ends the responses of requests that failed unexpectedly."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def conclude(self, error: Exception, endpoint: str, response: ResponseTracker) -> None:
        """Log `error`, count it and end the response; call this from the `except` block.

        A plain response that has begun is left as it is: the server closes its connection. A response that has ended
        is already counted.
        """
        log.error("a request to %s failed", endpoint, exc_info=error)
        api_error = internal_error()
        if not response.ended and not isinstance(error, AccountedFault):
            self._metrics.count_rejected(endpoint=endpoint, code=api_error.code, status=api_error.status)
        await end_response(api_error, response)


async def end_response(error: ApiError, response: ResponseTracker) -> None:
    """Send the error, as a response or as the last event of a stream, unless the response can hold none any more."""
    if not response.begun:
        await respond_error(response, error)
    elif response.streams and not response.ended:
        await response(
            {"type": "http.response.body", "body": sse.encode_event(error.body()), "more_body": False}
        )
