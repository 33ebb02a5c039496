"""Keeps the sent parts of an answer for later use. Nothing is parsed while the request is served."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gateway.wire import sse
from gateway.wire.body_types import Body, Endpoint, Event, read_event
from gateway.wire.parsing.nesting import read_json
from gateway.wire.responses import assemble_response

MAX_CAPTURED_BYTES = 4 * 1024 * 1024
"""Maximum bytes of one answer that is captured. Nothing of a longer answer is, since half would pass for all."""

PARSED_EVENT_BYTES = 1024
"""Bytes that a parsed chunk counts for: about the memory that it takes."""

UNREADABLE = (ValueError, KeyError, IndexError, TypeError, AttributeError)
"""What parsing an answer of an unknown format raises."""


class RawEvents(NamedTuple):
    """Unparsed events of a stream."""

    data: bytes


class CapturedAnswer:
    """The captured answer of one exchange. A reply adds what it sends, before converting it for another API."""

    def __init__(self, max_bytes: int = MAX_CAPTURED_BYTES) -> None:
        self.size = 0
        self._max_bytes = max_bytes
        self._parts: list[Event | RawEvents] = []
        self._body: bytes | None = None

    def events(self, events: Sequence[Event]) -> None:
        for event in events:
            self._add(event, len(event) if isinstance(event, bytes) else PARSED_EVENT_BYTES)

    def raw(self, data: bytes) -> None:
        self._add(RawEvents(data), len(data))

    def response(self, body: bytes) -> None:
        """Capture a plain response."""
        self.size = len(body)
        self._body = body if self.size <= self._max_bytes else None

    def choice(self, endpoint: Endpoint) -> Body | None:
        """Return the answer's first choice, in the format of a plain response.

        Returns None if nothing was sent, too much, or no answer of the endpoint. Takes milliseconds for a long stream.
        """
        body = self._body
        try:
            answer = assemble_response(self._events(), endpoint) if body is None else read_json(body)
            choice: Body = answer["choices"][0]
            return choice if "message" in choice or "text" in choice else None
        except UNREADABLE:
            return None

    def message(self, endpoint: Endpoint) -> Body | None:
        """Return the first choice as an assistant message, also for a text completion. Returns None like `choice`."""
        choice = self.choice(endpoint)
        if choice is None:
            return None
        return choice["message"] if "message" in choice else {"role": "assistant", "content": choice["text"]}

    def _add(self, part: Event | RawEvents, size: int) -> None:
        self.size += size
        if self.size <= self._max_bytes:
            self._parts.append(part)
        else:
            self._parts.clear()

    def _events(self) -> Iterator[Body]:
        for part in self._parts:
            if isinstance(part, RawEvents):
                payloads = (sse.payload_of(block) for block in part.data.split(b"\n\n"))
                yield from (read_json(payload) for payload in payloads if payload)
            else:
                yield read_event(part)
