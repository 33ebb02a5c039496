"""What was sent of an answer, held by reference: nothing of it is read on the request's path."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import orjson

from gateway.wire import sse
from gateway.wire.body_types import Body, Endpoint, Event, read_event
from gateway.wire.responses import assemble_response

MAX_CAPTURED_BYTES = 4 * 1024 * 1024
"""Bytes of one answer that are kept; of a longer one nothing is, since half an answer would pass for a whole one."""

PARSED_EVENT_BYTES = 1024
"""Bytes that a chunk counts for which was read already: about what it takes."""

UNREADABLE = (ValueError, KeyError, IndexError, TypeError, AttributeError)
"""What reading an answer of a shape of its own ends in."""


class RelayedEvents(NamedTuple):
    """A part of a stream, as it was relayed."""

    data: bytes


class CapturedAnswer:
    """Of one exchange. A reply adds what it sends, before another API's events are made of it."""

    def __init__(self, most: int = MAX_CAPTURED_BYTES) -> None:
        self.size = 0
        self._most = most
        self._parts: list[Event | RelayedEvents] = []
        self._body: bytes | None = None

    def events(self, events: Sequence[Event]) -> None:
        for event in events:
            self._add(event, len(event) if isinstance(event, bytes) else PARSED_EVENT_BYTES)

    def raw(self, data: bytes) -> None:
        self._add(RelayedEvents(data), len(data))

    def response(self, body: bytes) -> None:
        """A plain response."""
        self.size = len(body)
        self._body = body if self.size <= self._most else None

    def choice(self, endpoint: Endpoint) -> Body | None:
        """The answer's first choice, as a plain response has it. None where nothing was sent, or too much, or what is
        no answer of the endpoint. Takes milliseconds for a long stream."""
        body = self._body
        try:
            answer = assemble_response(self._events(), endpoint) if body is None else orjson.loads(body)
            choice: Body = answer["choices"][0]
            return choice if "message" in choice or "text" in choice else None
        except UNREADABLE:
            return None

    def message(self, endpoint: Endpoint) -> Body | None:
        """Likewise, as an assistant's message; a text completion's is one too."""
        choice = self.choice(endpoint)
        if choice is None:
            return None
        return choice["message"] if "message" in choice else {"role": "assistant", "content": choice["text"]}

    def _add(self, part: Event | RelayedEvents, size: int) -> None:
        self.size += size
        if self.size <= self._most:
            self._parts.append(part)
        else:
            self._parts.clear()

    def _events(self) -> Iterator[Body]:
        for part in self._parts:
            if isinstance(part, RelayedEvents):
                payloads = (sse.payload_of(block) for block in part.data.split(b"\n\n"))
                yield from (orjson.loads(payload) for payload in payloads if payload)
            else:
                yield read_event(part)
