"""What a client of the Responses API gets: one response object, or its events."""

from collections.abc import Sequence

import orjson

from gateway.api.writers import PlainReply, Send, StreamReply
from gateway.errors import ApiError
from gateway.exchange.exchange import Exchange
from gateway.timers import Deadlines
from gateway.wire.shapes import Body, Event, read_event

from .completed import from_chat
from .events import ResponseEvents, encoded


def response_id(exchange: Exchange) -> str:
    return f"resp_{exchange.id}"


class ResponseReply(PlainReply):
    """`asked` is the /v1/responses body."""

    def __init__(self, send: Send, exchange: Exchange, asked: Body) -> None:
        super().__init__(send, exchange)
        self._asked = asked

    def _content(self, usage: Body | None) -> bytes:
        whole = orjson.loads(super()._content(usage))
        whole["smallfirst"] = self._exchange.figures()
        return orjson.dumps(from_chat(whole, self._asked, response_id(self._exchange)))


class ResponseStream(StreamReply):
    """`asked` is the /v1/responses body."""

    _passes_raw = False

    def __init__(
        self, send: Send, exchange: Exchange, asked: Body, heartbeat: float, deadlines: Deadlines
    ) -> None:
        super().__init__(send, exchange, heartbeat, deadlines)
        self._events = ResponseEvents(asked, response_id(exchange), int(exchange.at))
        self._opened = False

    def _encoded(self, events: Sequence[Event]) -> bytes:
        chunks = map(read_event, events)
        return self._opening() + _joined([said for chunk in chunks for said in self._events.chunk(chunk)])

    def _last(self, usage: Body | None) -> bytes:
        extra = {"smallfirst": self._exchange.figures()}
        return self._opening() + _joined(self._events.finish(usage, extra))

    def _error(self, error: ApiError) -> bytes:
        return self._opening() + _joined(self._events.fail(error.message, error.code))

    def _opening(self) -> bytes:
        """The events that begin a stream, once."""
        if self._opened:
            return b""
        self._opened = True
        return _joined(self._events.begin())


def _joined(events: list[Body]) -> bytes:
    return b"".join(map(encoded, events))
