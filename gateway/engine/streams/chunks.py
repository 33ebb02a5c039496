"""Reads the events of an upstream's stream as the chunks of one well-formed answer."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from gateway.upstreams.transport.malformed import MISSHAPEN
from gateway.upstreams.transport.reported_error import ReportedError, check_answer
from gateway.upstreams.transport.transport import Garbage, quote
from gateway.wire.body_types import Body, Endpoint
from gateway.wire.chunks.tool_calls import ToolCalls
from gateway.wire.parsing.answers import read_answer
from gateway.wire.parsing.nesting import TooDeep
from gateway.wire.parsing.usage import UsageReader, strip_usage
from gateway.wire.responses import finish_reason_of, split_finish
from gateway.wire.sse import DONE, payload_of

ENVELOPE_KEYS = frozenset(
    {
        "index",
        "delta",
        "text",
        "logprobs",
        "finish_reason",
        "native_finish_reason",
        "stop_reason",
        "matched_stop",
    }
)
"""Keys of a choice that have no content of their own. All but the first four tell why it has ended."""


USAGE_KEY = b'"usage"'

ANSWER_KEYS = ("id", "object", "created", "model")
"""Keys that are the same in all chunks of an answer."""


class Chunk(NamedTuple):
    """A chunk with one choice. `raw` is its JSON as it came, None if it came otherwise."""

    body: Body
    raw: bytes | None = None

    @property
    def choice(self) -> Body:
        choice: Body = self.body["choices"][0]
        return choice

    def encode(self) -> bytes:
        return b"data: %b\n\n" % (orjson.dumps(self.body) if self.raw is None else self.raw)


NO_CHUNKS: Sequence[Chunk] = ()


class ChunkReader:
    """Reads one stream's events.

    The first chunk of each choice names the role, and no other does. Chunks without content are left out. The chunk
    with a choice's finish reason waits for the stream's end, since some servers go on after it, or finish twice.

    `choice_count` is how many choices the answer has. `keeps_usage` leaves the usage in the chunks, for clients that
    want it continuously.
    """

    as_chunk: Callable[[Body], Body] | None = None
    """Turns another endpoint's events into chunks of this one."""

    def __init__(self, endpoint: Endpoint, choice_count: int = 1, *, keeps_usage: bool = False) -> None:
        self.is_done = False
        """Whether the server has ended the stream with `[DONE]`."""
        self.has_ended = False
        """Whether it has, or all choices are finished."""
        self.finish: str | None = None
        """The first choice's finish reason."""
        self.usage = UsageReader()
        self.endpoint = endpoint
        self.choice_count = choice_count
        self._keeps_usage = keeps_usage
        self._first: dict[Any, Body] = {}
        self._last: dict[Any, Chunk | None] = {}
        self._tool_calls: defaultdict[Any, ToolCalls] = defaultdict(ToolCalls)

    @property
    def has_begun(self) -> bool:
        """Whether a choice has begun, so that its role is named."""
        return bool(self._first)

    def read(self, block: bytes) -> Sequence[Chunk]:
        """Return the chunks that a raw event gives. Raises Garbage, ReportedError.

        Nothing that follows a finished answer undoes it.
        """
        payload = _extract_payload(block)
        return self.parse(payload) if payload else NO_CHUNKS

    def parse(self, payload: bytes) -> Sequence[Chunk]:
        """Return the chunks that an event's data gives. Raises like `read`."""
        if self.is_done:
            return NO_CHUNKS
        if payload.strip() == DONE:
            self.is_done = self.has_ended = True
            return self.end()
        try:
            return self._read_event(*read_event(payload))
        except (Garbage, ReportedError):
            if not self.has_ended:
                raise
        except MISSHAPEN as error:
            if not self.has_ended:
                raise Garbage("an event is not shaped as a chunk") from error
        return NO_CHUNKS

    def end(self) -> Sequence[Chunk]:
        """Return the chunks that have waited for the end."""
        chunks = [chunk for chunk in self._last.values() if chunk is not None]
        self._last = dict.fromkeys(self._last)
        return chunks

    def finish_rest(self) -> Sequence[Chunk]:
        """Return chunks that finish with `stop` the choices that the server has ended without a finish reason."""
        rest = [index for index in self._first if index not in self._last]
        if rest:
            self.finish = self.finish or "stop"
        empty: Body = {"delta": {}} if self.endpoint == "chat" else {"text": ""}
        ends = [{"index": index, **empty, "finish_reason": "stop"} for index in rest]
        return [
            Chunk({**self._first[index], "choices": [end]}) for index, end in zip(rest, ends, strict=True)
        ]

    def _read_event(self, event: Body, payload: bytes) -> Sequence[Chunk]:
        raw = payload if b"\n" not in payload else None
        if self.as_chunk is not None:
            event, raw = self.as_chunk(event), None
        choices = event.get("choices") or ()
        if choices and "message" in choices[0]:
            _to_stream(event)
            raw = None
        if "id" not in event and self._name_answer(event):
            raw = None
        if (USAGE_KEY in payload and self._read_usage(event)) or len(choices) > 1:
            raw = None
        chunks: list[Chunk] = []
        for choice in choices:
            body = event if len(choices) == 1 else {**event, "choices": [choice]}
            chunks += self._read_choice(body, choice, raw)
        return chunks

    def _name_answer(self, event: Body) -> bool:
        """Give an event without an id what the first chunk says of the answer. Return whether there was one."""
        for first in self._first.values():
            event.update({name: first[name] for name in ANSWER_KEYS if name in first and name not in event})
            return True
        return False

    def _read_usage(self, event: Body) -> bool:
        """Read an event's usage, and return whether that has changed the event."""
        if not self.usage.read(event) or self._keeps_usage:
            return False
        strip_usage(event)
        return True

    def _read_choice(self, body: Body, choice: Body, raw: bytes | None) -> Iterator[Chunk]:
        index = choice.get("index") or 0
        is_first = index not in self._first
        finish, reason = finish_reason_of(choice), choice.get("finish_reason")
        is_changed = self._name_role(choice, is_first)
        delta = choice.get("delta")
        if delta and "tool_calls" in delta and self._tool_calls[index].normalize(delta):
            is_changed = True
        if finish != reason:
            choice["finish_reason"] = finish
            is_changed = True
        if not (is_first or finish or has_content(choice)):
            return
        if is_first:
            self._first[index] = body
        chunk = Chunk(body, None if is_changed else raw)
        if finish is None and index not in self._last:
            yield chunk
        else:
            yield from self._replace_last(index, chunk, finish)

    def _name_role(self, choice: Body, is_first: bool) -> bool:
        """Let a choice's first chunk, and no other, name the role. Return whether that has changed the choice."""
        if self.endpoint != "chat":
            return False
        delta = choice["delta"] = choice.get("delta") or {}
        if not is_first:
            return bool(delta.pop("role", self) is not self)
        if delta.get("role"):
            return False
        delta["role"] = "assistant"
        return True

    def _replace_last(self, index: Any, chunk: Chunk, finish: str | None) -> Iterator[Chunk]:
        """Hold a chunk that finishes its choice. If the choice goes on, return what was held, without its finish."""
        if index not in self._last:
            self._hold_last(index, chunk, finish)
        elif has_content(chunk.choice):
            before = self._last[index]
            if before is None:
                return
            end = Chunk(split_finish(before.body))
            if has_content(before.choice):
                yield Chunk(before.body)
            if finish is None:
                yield chunk
                self._last[index] = end
            else:
                self._hold_last(index, chunk, finish)

    def _hold_last(self, index: Any, chunk: Chunk, finish: str | None) -> None:
        self._last[index] = chunk
        self.has_ended = len(self._last) >= self.choice_count
        if index == 0 or self.finish is None:
            self.finish = finish


def parse_block(block: bytes) -> Body | None:
    """Parse a raw event; None if it has no data. Raises like `parse_event`."""
    payload = _extract_payload(block)
    return parse_event(payload) if payload else None


def _extract_payload(block: bytes) -> bytes:
    return block[6:] if block.startswith(b"data: ") and b"\n" not in block else payload_of(block)


def parse_event(payload: bytes) -> Body:
    """Parse an event's data. Raises like `read_event`."""
    return read_event(payload)[0]


def read_event(payload: bytes) -> tuple[Body, bytes]:
    """Return an event, and its text as `read_answer` gives it.

    Raises Garbage if it is no JSON object, and ReportedError if it is the server's error.
    """
    try:
        event, text = read_answer(payload)
    except orjson.JSONDecodeError as error:
        raise Garbage(f"an event is not JSON: {quote(payload)}") from error
    except TooDeep as error:
        raise Garbage(f"an event: {error}") from error
    check_answer(event)
    if not isinstance(event, dict):
        raise Garbage(f"an event is not an object: {quote(payload)}")
    return event, text


def has_content(choice: Body) -> bool:
    """Return whether a chunk's choice has more than a role and the reason why it has ended."""
    delta = choice.get("delta") or {}
    if delta.get("content") or choice.get("text"):
        return True
    if any(value for name, value in delta.items() if name != "role"):
        return True
    logprobs = choice.get("logprobs")
    if isinstance(logprobs, dict) and any(logprobs.values()):
        return True
    return any(value for name, value in choice.items() if name not in ENVELOPE_KEYS)


def _to_stream(event: Body) -> None:
    """Turn a plain response into a chunk."""
    event["object"] = "chat.completion.chunk"
    for choice in event["choices"]:
        choice["delta"] = choice.pop("message") or {}
