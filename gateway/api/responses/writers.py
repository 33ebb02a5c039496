"""Writes the replies of the Responses API: one response object, or a stream of events."""

from collections.abc import Sequence

import orjson

from gateway.api.writers import PlainReply, Send, StreamReply
from gateway.errors import ApiError
from gateway.exchange.exchange import Exchange
from gateway.timers import Deadlines
from gateway.wire.body_types import Body, Event, read_event

from .completed import to_response
from .events import ResponseEvents, encode
from .history import History


def to_response_id(exchange: Exchange) -> str:
    return f"resp_{exchange.id}"


class ResponseReply(PlainReply):
    """Writes one response object. `request` is the /v1/responses body. `history` gets the response before the client,
    whose next turn may refer to it."""

    def __init__(self, send: Send, exchange: Exchange, request: Body, history: History) -> None:
        super().__init__(send, exchange)
        self._request = request
        self._history = history
        self._response: Body = {}

    async def finish(self, usage: Body | None) -> None:
        completion = orjson.loads(super()._build_body(usage))
        completion["smallfirst"] = self._exchange.figures()
        response = to_response(completion, self._request, to_response_id(self._exchange))
        self._response = response | {"store": self._history.can_keep(self._request, self._exchange)}
        await self._history.keep(self._request, self._response)
        await super().finish(usage)

    def _build_body(self, usage: Body | None) -> bytes:
        return orjson.dumps(self._response)


class ResponseStream(StreamReply):
    """Writes a stream of response events. `request` is the /v1/responses body. `history` gets the response before the
    client does."""

    _passes_raw = False

    def __init__(
        self,
        send: Send,
        exchange: Exchange,
        request: Body,
        history: History,
        heartbeat: float,
        deadlines: Deadlines,
    ) -> None:
        super().__init__(send, exchange, heartbeat, deadlines)
        self._request = request
        self._history = history
        self._events = ResponseEvents(request, to_response_id(exchange), int(exchange.at))
        self._opened = False
        self._last = b""

    def _encode(self, events: Sequence[Event]) -> bytes:
        chunks = map(read_event, events)
        return self._build_opening_events() + _join(
            [event for chunk in chunks for event in self._events.chunk(chunk)]
        )

    async def finish(self, usage: Body | None) -> None:
        kept = self._history.can_keep(self._request, self._exchange)
        extra = {"smallfirst": self._exchange.figures(), "store": kept}
        opening = self._build_opening_events()
        events = self._events.finish(usage, extra)
        self._last = opening + _join(events)
        await self._history.keep(self._request, events[-1]["response"])
        await super().finish(usage)

    def _build_last_event(self, usage: Body | None) -> bytes:
        return self._last

    def _build_error_event(self, error: ApiError) -> bytes:
        return self._build_opening_events() + _join(self._events.fail(error.message, error.code))

    def _build_opening_events(self) -> bytes:
        """Return the events that begin a stream; nothing after the first call."""
        if self._opened:
            return b""
        self._opened = True
        return _join(self._events.begin())


def _join(events: list[Body]) -> bytes:
    return b"".join(map(encode, events))
