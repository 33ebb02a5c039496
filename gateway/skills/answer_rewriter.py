"""An upstream's answer with its texts rewritten: whole, or event by event as a stream runs."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import orjson

from gateway.upstreams.transport.malformed import parsing
from gateway.upstreams.transport.transport import Garbage, Response
from gateway.wire.body_types import Body
from gateway.wire.nesting import TooDeep, read_json
from gateway.wire.responses import tool_call_index
from gateway.wire.sse import DONE, DONE_EVENT, EventReader, encode_event, payload_of

TEXT_KEYS = ("content", "refusal", "reasoning_content", "reasoning")
"""What a message, or a stream's delta, says in running text."""


class TextFilter(Protocol):
    """Rewrites one running text, piece by piece: a pure state machine, whose output depends on the text alone and not
    on where it was cut."""

    @property
    def has_pending_text(self) -> bool:
        """Whether something that was fed is not out yet."""
        ...

    def feed(self, text: str) -> str:
        """Return the text that may go on now. Raises UnusableAnswer."""
        ...

    def flush(self) -> str:
        """Return the text that was held back. Raises UnusableAnswer."""
        ...


class _FilterChain:
    """Filters one after another."""

    def __init__(self, filters: Sequence[TextFilter]) -> None:
        self._filters = filters

    @property
    def has_pending_text(self) -> bool:
        return any(one.has_pending_text for one in self._filters)

    def feed(self, text: str) -> str:
        for text_filter in self._filters:
            text = text_filter.feed(text)
        return text

    def flush(self) -> str:
        flushed = ""
        for text_filter in self._filters:
            flushed = (text_filter.feed(flushed) if flushed else "") + text_filter.flush()
        return flushed


class _TextField:
    """A place in an event or a message that holds text."""

    def __init__(self, channel: tuple[Any, ...], container: Body, key: str) -> None:
        self.channel = channel
        self._container = container
        self._key = key

    @property
    def text(self) -> str:
        value: str = self._container[self._key]
        return value

    @text.setter
    def text(self, text: str) -> None:
        self._container[self._key] = text


def _find_text_fields(choice: Body) -> Iterator[_TextField]:
    """All there are in a choice, of a stream's chunk or of a whole answer, chat or completion. Raises what reading one
    of another shape ends in."""
    index = choice.get("index", 0)
    hash(index)  # raises TypeError for what can't tell choices apart
    if isinstance(choice.get("text"), str):
        yield _TextField((index, "text"), choice, "text")
    message = choice.get("delta") or choice.get("message")
    if not isinstance(message, dict):
        return
    for key in TEXT_KEYS:
        if isinstance(message.get(key), str):
            yield _TextField((index, key), message, key)
    for position, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function")
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            yield _TextField((index, "arguments", tool_call_index(call, position)), function, "arguments")


class RewrittenResponse:
    """A response whose texts pass filters: `filters` makes those of one text, the flag telling that it is a tool
    call's arguments, which are JSON.

    An event that brings text is held while any filter holds some of it, and all after it too: so a token's event
    never leaves before its text, and what a filter held to the end is still an event's that has tokens.
    """

    def __init__(self, response: Response, make_filters: Callable[[bool], Sequence[TextFilter]]) -> None:
        self.status = response.status
        self._response = response
        self._make_filters = make_filters
        self._chains: dict[tuple[Any, ...], _FilterChain] = {}
        self._last_fields: dict[tuple[Any, ...], _TextField] = {}
        self._reader = EventReader(Garbage)
        self._pending: deque[bytes | Body] = deque()
        self._ended = False

    @property
    def waited_s(self) -> float:
        return self._response.waited_s

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    def close(self) -> None:
        self._response.close()

    async def read(self) -> bytes:
        """Return the rewritten body; one that is no answer of OpenAI's shape stays as it is.

        Raises TransportError, and Garbage if only a part has OpenAI's shape."""
        data = await self._response.read()
        try:
            body = read_json(data)
            choices = [choice for choice in body.get("choices") or () if isinstance(choice, dict)]
        except (orjson.JSONDecodeError, AttributeError, TypeError):
            return data
        except TooDeep as error:
            raise Garbage(f"the response: {error}") from error
        with parsing("a choice of OpenAI's shape"):
            places = [place for choice in choices for place in _find_text_fields(choice)]
        for field in places:
            chain = self._chain_for(field.channel)
            field.text = chain.feed(field.text) + chain.flush()
        return orjson.dumps(body) if choices else data

    async def next(self, gap: float | None = None) -> bytes:
        """Return complete events. Raises TransportError."""
        while not self._ended:
            data = await self._response.next(gap)
            if data:
                self._enqueue(self._reader.feed(data))
            else:
                self._ended = True
                self._enqueue([payload for payload in (payload_of(self._reader.flush()),) if payload])
                self._flush_channels(list(self._chains))
            if out := self._drain():
                return out
        return b""

    def _enqueue(self, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            if payload == DONE:
                self._flush_channels(list(self._chains))
                self._pending.append(DONE_EVENT)
            else:
                self._pending.append(self._rewrite_event(payload))

    def _rewrite_event(self, payload: bytes) -> bytes | Body:
        """Whoever reads what is no chunk of OpenAI's shape judges it. No filter runs where that is found out: what one
        raises is no fault of the chunk's."""
        try:
            chunk = read_json(payload)
            choices = [(choice, [*_find_text_fields(choice)]) for choice in chunk.get("choices") or ()]
        except (orjson.JSONDecodeError, AttributeError, TypeError, KeyError):
            return b"data: " + payload + b"\n\n"
        except TooDeep as error:
            raise Garbage(f"an event: {error}") from error
        for choice, places in choices:
            self._filter(places)
            if choice.get("finish_reason") is not None:
                index = choice.get("index", 0)
                self._flush_channels([channel for channel in self._chains if channel[0] == index])
        body: Body = chunk
        return body

    def _filter(self, places: "Sequence[_TextField]") -> None:
        for place in places:
            if place.text:
                self._last_fields[place.channel] = place
                place.text = self._chain_for(place.channel).feed(place.text)

    def _flush_channels(self, channels: Sequence[tuple[Any, ...]]) -> None:
        """What their filters still hold is the end of the last text that each got."""
        for channel in channels:
            if flushed := self._chains.pop(channel).flush():
                self._last_fields[channel].text += flushed

    def _drain(self) -> bytes:
        if any(chain.has_pending_text for chain in self._chains.values()):
            return b""
        out = b"".join([one if isinstance(one, bytes) else encode_event(one) for one in self._pending])
        self._pending.clear()
        return out

    def _chain_for(self, channel: tuple[Any, ...]) -> _FilterChain:
        if channel not in self._chains:
            self._chains[channel] = _FilterChain(self._make_filters(channel[1] == "arguments"))
        return self._chains[channel]
