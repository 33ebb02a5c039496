"""Passes an upstream's stream through as it comes, if nobody watches it."""

from collections import defaultdict

import orjson

from gateway.engine.dispatch import Attempt
from gateway.engine.reply import Sink
from gateway.exchange.exchange import Exchange
from gateway.upstreams.transport.malformed import MISSHAPEN
from gateway.upstreams.transport.transport import Garbage, Response, TransportError
from gateway.wire.body_types import Body
from gateway.wire.chunks.tool_calls import ToolCalls, may_hold_tool_calls
from gateway.wire.parsing.answers import may_need_mending
from gateway.wire.parsing.usage import strip_usage
from gateway.wire.sse import MAX_EVENT, EventReader, payload_of
from routers.plan import Draft

from .attempt_reader import AttemptReader
from .events import DONE, END_GRACE_S, read_event


class PassthroughStream(AttemptReader):
    """Passes a stream through, from the first event that says something.

    Earlier events only name a role: they decide no race and rule out no fallback. Of later events only those that speak
    of usage, of tool calls, of the finish or of an error are parsed. The last of these wait for the reply's end.
    """

    def __init__(self, exchange: Exchange, attempt: Attempt, sink: Sink) -> None:
        super().__init__(exchange, attempt, sink)
        self._tool_calls: defaultdict[int, ToolCalls] = defaultdict(ToolCalls)
        self._has_begun = False
        self._is_mended = False
        self._is_suspicious = exchange.wanted_logprobs is not None  # they may not be finite
        self._withheld = bytearray()

    async def read(self, response: Response) -> Draft:
        """Pass the response through to its end. Raises TransportError, LostRace."""
        reader = EventReader(Garbage)
        try:
            while data := await response.next(END_GRACE_S if self._done else None):
                await self._send(self._filter_events(reader.read_blocks(data)))
        except TransportError as error:
            self._check_finished(error)
        await self._send(self._filter_events([block for block in (reader.flush(),) if block]))
        if not self._done and self.call.finish is None:
            raise TransportError("lost", "the stream ended before the answer did", before_response=False)
        self._has_begun = True  # an answer without a word is one too
        await self._send(b"")
        usage = self.usage.to_usage(self.call.prompt_tokens, self.call.chunks)
        return self._conclude(Draft(self.call.tier, finish=self.call.finish or "stop", usage=usage))

    async def _send(self, out: bytes) -> None:
        if not self._has_begun:
            self._withheld += out
            if len(self._withheld) > MAX_EVENT:
                raise Garbage(f"events without a word are over the limit of {MAX_EVENT} bytes")
            return
        if self._withheld:
            out = bytes(self._withheld) + out
            self._withheld.clear()
        if not out:
            return
        if self.call.first is None:
            self.call.first = self.exchange.elapsed()
            if not self.sink.begun:
                self.exchange.note_decision(self.call)
        await self.sink.raw(out)

    def _filter_events(self, blocks: list[bytes]) -> bytes:
        try:
            return b"".join([kept + b"\n\n" for block in blocks if (kept := self._filter_event(block))])
        except MISSHAPEN as error:
            raise Garbage("an event is not shaped as a chunk") from error

    def _filter_event(self, block: bytes) -> bytes:
        """Return what the client gets of an event; empty if nothing."""
        if (
            self._has_begun
            and b'"finish_reason":null' in block
            and b'"usage":{' not in block
            and (b'"tool_calls"' not in block or not may_hold_tool_calls(block))
            and ((b"\\" not in block and not self._is_suspicious) or not self._must_parse(block))
        ):
            self.call.chunks += 1
            return block  # the common case, decided without parsing
        payload = payload_of(block)
        if payload == DONE:
            self._done = True
            return b""
        if not payload:
            # A comment before the first chunk would begin the reply, and rule out a fallback.
            return block if block.startswith(b":") and self.call.chunks else b""
        event, raw = read_event(payload)
        if raw is not payload:
            self._is_mended = self._is_suspicious = True
            block = b"data: " + raw
        return self._filter_chunk(event, block)

    def _must_parse(self, block: bytes) -> bool:
        """Return whether an event may need mending. A server that is mended once is mended throughout."""
        return self._is_mended or may_need_mending(block)

    def _filter_chunk(self, event: Body, block: bytes) -> bytes:
        has_usage = self.usage.read(event)
        choices = event.get("choices")
        if not choices:
            return b"" if has_usage else block
        self.call.chunks += 1
        self.call.finish = choices[0].get("finish_reason") or self.call.finish
        self._has_begun = self._has_begun or _has_content(choices[0])
        is_changed = self._normalize_tool_calls(choices)
        if has_usage:
            strip_usage(event)  # the client gets it once, at the end, if it asked for it
            is_changed = True
        return b"data: " + orjson.dumps(event) if is_changed else block

    def _normalize_tool_calls(self, choices: list[Body]) -> bool:
        """Bring the deltas of tool calls into OpenAI's form. Return whether that has changed any."""
        changes = [
            self._tool_calls[choice.get("index") or 0].normalize(choice.get("delta") or {})
            for choice in choices
        ]
        return True in changes


def _has_content(choice: Body) -> bool:
    """Return whether a chunk's choice has more than a role."""
    delta = choice.get("delta") or {}
    says = any(value for name, value in delta.items() if name != "role")
    return says or bool(choice.get("text")) or choice.get("finish_reason") is not None
