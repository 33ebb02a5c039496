"""Exceptions that nobody expected -> what the client gets, a traceback in the log, a count in the metrics."""

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
    """Passes an ASGI response on, and knows how much of it has left."""

    __slots__ = ("_send", "begun", "ended", "streams")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False
        self.ended = False
        self.streams = False
        """Whether the response is a stream of events."""

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

    async def conclude(self, error: Exception, endpoint: str, sent: ResponseTracker) -> None:
        """To be called as `error` is handled. A response that has begun, and is no stream, is left as it is: the server
        closes its connection. One that has ended is counted already."""
        log.error("a request to %s failed", endpoint, exc_info=error)
        found = internal_error()
        if not sent.ended and not isinstance(error, AccountedFault):
            self._metrics.count_rejected(endpoint=endpoint, code=found.code, status=found.status)
        await _respond(found, sent)


async def _respond(error: ApiError, sent: ResponseTracker) -> None:
    if not sent.begun:
        await respond_error(sent, error)
    elif sent.streams and not sent.ended:
        await sent({"type": "http.response.body", "body": sse.encode_event(error.body()), "more_body": False})
