"""Rewrites the texts of an upstream's answer: of a plain response, or of each event of a stream."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import orjson

from gateway.upstreams.transport.malformed import parsing
from gateway.upstreams.transport.transport import MAX_ANSWER, Garbage, Response, compute_gap, set_end
from gateway.wire.body_types import Body
from gateway.wire.chunks.tool_calls import ToolCalls, stringify_arguments
from gateway.wire.parsing.answers import read_answer
from gateway.wire.parsing.nesting import TooDeep
from gateway.wire.responses import finish_reason_of
from gateway.wire.sse import DONE, DONE_EVENT, EventReader, encode_event, is_json, payload_of

TEXT_KEYS = ("content", "refusal", "reasoning_content", "reasoning")
"""The text fields of a message or of a stream's delta."""


class TextFilter(Protocol):
    """Rewrites one text, piece by piece.

    It is a pure state machine: its output depends on the text alone, and not on how the text is split.
    """

    @property
    def has_pending_text(self) -> bool:
        """Whether some of the text is held back."""
        ...

    def feed(self, text: str) -> str:
        """Add a piece of the text, and return what may be sent now. Raises UnusableAnswer."""
        ...

    def flush(self) -> str:
        """Return what was held back, at the end of the text. Raises UnusableAnswer."""
        ...


class _FilterChain:
    """Applies several filters, one after another."""

    def __init__(self, filters: Sequence[TextFilter]) -> None:
        self._filters = filters

    @property
    def has_pending_text(self) -> bool:
        return any(text_filter.has_pending_text for text_filter in self._filters)

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
    """A field of an event or a message that holds text.

    `channel` identifies the running text that the field belongs to, across the events of a stream.
    """

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
    """Yield the text fields of a choice: of a chunk or a plain response, chat or completion.

    Raises one of MISSHAPEN for a malformed choice.
    """
    index = choice.get("index", 0)
    hash(index)  # raises TypeError for an index that can not be a key
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
            yield _TextField((index, "arguments", call.get("index", position)), function, "arguments")


class RewrittenResponse:
    """A response whose texts pass through filters.

    `make_filters` returns the filters of one text; its argument tells whether the text is a tool call's arguments,
    which are JSON.

    While any filter holds back text, that text's event and all later ones are held too. So a token's event is never
    sent before its text, and text that a filter holds until the end still belongs to an event with tokens.
    """

    def __init__(self, response: Response, make_filters: Callable[[bool], Sequence[TextFilter]]) -> None:
        self.status = response.status
        self._response = response
        self._make_filters = make_filters
        self._tool_calls: defaultdict[Any, ToolCalls] = defaultdict(ToolCalls)
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

    async def read(self, limit: int = MAX_ANSWER) -> bytes:
        """Return the rewritten body; a body that is no answer of OpenAI's format is unchanged.

        Raises TransportError, Garbage if only a part of the answer is malformed, and UnusableAnswer.
        """
        data = await self._response.read(limit)
        if not is_json(data):  # it may be a stream
            self._enqueue(self._reader.feed(data))
            self._finish()
            return self._drain() or data
        try:
            body = read_answer(data)[0]
            choices = [choice for choice in body.get("choices") or () if isinstance(choice, dict)]
        except (orjson.JSONDecodeError, AttributeError, TypeError):
            return data
        except TooDeep as error:
            raise Garbage(f"the response: {error}") from error
        with parsing("a choice of OpenAI's shape"):
            stringify_arguments(choices)
            fields = [field for choice in choices for field in _find_text_fields(choice)]
        for field in fields:
            chain = self._chain_for(field.channel)
            field.text = chain.feed(field.text) + chain.flush()
        return orjson.dumps(body) if choices else data

    async def next(self, gap: float | None = None) -> bytes:
        """Return the next complete events, rewritten; b"" at the end. Raises TransportError, UnusableAnswer."""
        end = set_end(gap)
        while not self._ended:
            if data := await self._response.next(compute_gap(end)):
                self._enqueue(self._reader.feed(data))
            else:
                self._finish()
            if out := self._drain():
                return out
        return b""

    def _finish(self) -> None:
        self._ended = True
        self._enqueue([payload for payload in (payload_of(self._reader.flush()),) if payload])
        self._flush_channels(list(self._chains))

    def _enqueue(self, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            if payload.strip() == DONE:
                self._flush_channels(list(self._chains))
                self._pending.append(DONE_EVENT)
            else:
                self._pending.append(self._rewrite_event(payload))

    def _rewrite_event(self, payload: bytes) -> bytes | Body:
        """Return the rewritten event. An event that is no chunk of OpenAI's format is unchanged: its reader judges it.

        Filters run outside of the `try`: an exception of a filter does not mean that the chunk is malformed.
        """
        try:
            chunk = read_answer(payload)[0]
            for choice in chunk.get("choices") or ():
                self._tool_calls[choice.get("index", 0)].normalize(choice.get("delta") or {})
            choices = [(choice, [*_find_text_fields(choice)]) for choice in chunk.get("choices") or ()]
        except (orjson.JSONDecodeError, AttributeError, TypeError, KeyError):
            return b"data: " + payload + b"\n\n"
        except TooDeep as error:
            raise Garbage(f"an event: {error}") from error
        for choice, fields in choices:
            self._filter(fields)
            if finish_reason_of(choice) is not None:
                index = choice.get("index", 0)
                self._flush_channels([channel for channel in self._chains if channel[0] == index])
        body: Body = chunk
        return body

    def _filter(self, fields: "Sequence[_TextField]") -> None:
        for field in fields:
            if field.text:
                self._last_fields[field.channel] = field
                field.text = self._chain_for(field.channel).feed(field.text)

    def _flush_channels(self, channels: Sequence[tuple[Any, ...]]) -> None:
        """End these texts: append what their filters still hold to the last field of each."""
        for channel in channels:
            if flushed := self._chains.pop(channel).flush():
                self._last_fields[channel].text += flushed

    def _drain(self) -> bytes:
        if any(chain.has_pending_text for chain in self._chains.values()):
            return b""
        out = b"".join(
            [event if isinstance(event, bytes) else encode_event(event) for event in self._pending]
        )
        self._pending.clear()
        return out

    def _chain_for(self, channel: tuple[Any, ...]) -> _FilterChain:
        if channel not in self._chains:
            self._chains[channel] = _FilterChain(self._make_filters(channel[1] == "arguments"))
        return self._chains[channel]
