"""How an upstream's stream becomes a draft: followed token by token, or relayed as it comes."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import orjson

from gateway.exchange.exchange import Call, Exchange
from gateway.upstreams.transport.malformed import MISSHAPEN, UpstreamEvents
from gateway.upstreams.transport.transport import Garbage, Response, TransportError
from gateway.wire.body_types import Body, Event
from gateway.wire.fast_chunks import PlainChunk, parse_plain_chunk
from gateway.wire.reasoning import TAG_START, THINK_END, ReasoningTracker
from gateway.wire.responses import (
    is_well_formed,
    mark_reasoning,
    split_finish,
    text_of,
    tokens_of,
    tool_call_index,
    trim_logprobs,
    usage_of,
)
from gateway.wire.sse import MAX_EVENT, payload_of
from routers.plan import Draft, Reason, TokenLike, ToolCall, Usage, Verdict, Watch
from routers.structure.flaws import find_flaw

from .events import parse_event, read_next

DONE = b"[DONE]"


class Sink(Protocol):
    """Where what is committed goes: the reply, or a leg's lane to it. It raises Outrun for a leg that may not
    speak."""

    @property
    def begun(self) -> bool:
        """Whether any of the answer has left."""
        ...

    async def events(self, events: Sequence[Event]) -> None: ...

    async def raw(self, data: bytes) -> None: ...

    async def response(self, body: bytes) -> None: ...


class _Chunk(NamedTuple):
    """A chunk that was read whole, the text it adds, and its tokens."""

    event: Body
    text: str
    tokens: Sequence[TokenLike]


class WatchedStream:
    """A draft under a watch: its events are held until committed. `as_chunk` makes the events of another endpoint
    those of the exchange's."""

    def __init__(
        self,
        watch: Watch,
        exchange: Exchange,
        call: Call,
        as_chunk: Callable[[Body], Body] | None = None,
    ) -> None:
        self.watch = watch
        self.exchange = exchange
        self.call = call
        self.usage: Usage | None = None
        self.usage_event: Body | None = None
        self.gave_up = False
        self.draft: Draft | None = None
        self._as_chunk = as_chunk
        self._done = False
        self._thinking = ReasoningTracker()
        self._undecided: list[_Chunk] = []
        self._wanted_logprobs = exchange.wanted_logprobs
        self._reads_plainly = self._wanted_logprobs is None and exchange.endpoint == "chat"
        self._hides_usage = exchange.request.stream and not exchange.wants_usage
        self._held: list[Event] = []
        self._committed_events = 0
        self._texts: list[str] = []
        self._committed_texts = 0
        self._tool_calls: dict[int, tuple[list[str], list[str]]] = {}
        self._refusal: list[str] = []

    async def read(self, response: Response, reply: Sink) -> Draft:
        """Follows the response to its end or to a GIVE_UP. Raises Broken, and what the watch raises."""
        try:
            await self._follow(response, reply)
        except TransportError:
            if (
                self._committed_events
            ):  # what was committed is the client's, whatever came after it in the same read
                await self._release(reply)
            raise
        if not self.gave_up:
            self.call.ended = self.exchange.elapsed()
            self.call.flaw = self._find_flaw()
            self._end()
            if self.call.verdict is Verdict.COMMIT:
                self.call.kept = len(self.call.tokens)
                await self.release_all(reply)
        self.draft = self.draft_so_far()
        return self.draft

    async def _follow(self, response: Response, reply: Sink) -> None:
        reader = UpstreamEvents()
        while data := await read_next(response, self.exchange, self.call, self._done):
            self._feed(reader.feed(data))
            if self._committed_events:
                await self._release(reply)
            if self.gave_up:
                return
        self._feed([payload for payload in (payload_of(reader.flush()),) if payload])
        if self.call.finish is None and not self.gave_up:
            raise TransportError("lost", "the stream ended before the answer did", before_response=False)

    def _end(self) -> None:
        try:
            self._note_verdict(self.watch.end(self.call.finish, self.call.flaw))
        except Exception as error:
            self._check_tokens(error)
            raise

    async def release_all(self, reply: Sink) -> None:
        """Commits what is still held: the plan settled on this draft."""
        self._committed_events = len(self._held)
        self._committed_texts = len(self._texts)
        if self._committed_events:
            await self._release(reply)

    def draft_so_far(self) -> Draft:
        """What was written until now."""
        call = self.call
        return Draft(
            tier=call.tier,
            text="".join(self._texts),
            tokens=call.tokens,
            finish=call.finish,
            usage=self.usage or Usage(call.prompt_tokens, len(call.tokens), estimated=True),
            verdict=call.verdict or Verdict.CONTINUE,
            reason=call.reason,
            confidence=call.confidence,
            kept=call.kept,
            committed_text="".join(self._texts[: self._committed_texts]),
            tool_calls=self._tool_calls_so_far(),
            seconds=call.duration_s,
        )

    def partial(self) -> Draft | None:
        """What the client has of it, if it has any: the draft's beginning as a draft of its own."""
        call = self.call
        if not call.kept:
            return None
        return Draft(
            call.tier,
            "".join(self._texts[: self._committed_texts]),
            call.tokens[: call.kept],
            usage=Usage(call.prompt_tokens, call.kept, estimated=True),
            confidence=self.watch.confidence,
            kept=call.kept,
        )

    def _tool_calls_so_far(self) -> list[ToolCall]:
        return [
            ToolCall("".join(name), "".join(arguments))
            for _, (name, arguments) in sorted(self._tool_calls.items())
        ]

    def _find_flaw(self) -> Reason | None:
        text = "".join(self._texts).rpartition(THINK_END)[2]
        return find_flaw(
            text,
            self._tool_calls_so_far(),
            self.call.finish,
            self.exchange.expected,
            "".join(self._refusal) or None,
        )

    def _feed(self, payloads: list[bytes]) -> None:
        now = self.exchange.elapsed()
        for payload in payloads:
            if payload == DONE:
                self._done = True
            elif (plain := self._parse_plain_chunk(payload)) is not None:
                self._hold(plain.payload, plain.text, self._feed_watch(plain.tokens, now))
            else:
                for read in self._parse(payload):
                    self._add(read, now)
            if self.gave_up:
                return

    def _parse_plain_chunk(self, payload: bytes) -> PlainChunk | None:
        """None for a chunk that has to be read whole; one that may be of reasoning has, to be told token by token."""
        if not self._reads_plainly or self._thinking.is_inside or self._undecided:
            return None
        chunk = parse_plain_chunk(payload)
        return None if chunk is None or TAG_START in chunk.text else chunk

    def _parse(self, payload: bytes) -> "Sequence[_Chunk]":
        """What a chunk that is read whole lets the watch be told. Raises Garbage. No watch is asked in here: what one
        raises is not the server's fault."""
        try:
            event = parse_event(payload)
            return self._to_chunks(event if self._as_chunk is None else self._as_chunk(event))
        except MISSHAPEN as error:
            raise Garbage("an event is not shaped as a chunk") from error

    def _to_chunks(self, event: Body) -> "Sequence[_Chunk]":
        usage = usage_of(event) if event.get("usage") is not None else None
        choices = event.get("choices")
        if usage is not None:
            self.usage = usage
            if choices and self._hides_usage:
                del event["usage"]
        if not choices:
            self.usage_event = self.usage_event if usage is None else event
            return ()
        choice = choices[0]
        text = text_of(choice)
        tokens = tokens_of(choice, text)
        self._add_tool_calls(choice.get("delta") or {})
        read = _Chunk(trim_logprobs(event, self._wanted_logprobs), text, tokens)
        if self._undecided or self._thinking.is_inside or TAG_START in text:
            return self._mark_reasoning(read)
        return (read,)

    def _mark_reasoning(self, read: "_Chunk") -> "Sequence[_Chunk]":
        """What is read, and what was kept back before it, once it is told what of it is reasoning. Only text and what
        follows it at once has tags."""
        last = not read.text or read.event["choices"][0].get("finish_reason") is not None
        unsure = [*self._undecided, read] if read.text else self._undecided
        tokens = [token for one in unsure for token in one.tokens]
        marks = self._thinking.mark_tokens([token.text for token in tokens], is_last=last)
        if marks is None:
            self._undecided = unsure
            return ()
        self._undecided = []
        next_marks = iter(marks)
        reads = [
            one._replace(tokens=mark_reasoning(one.tokens, [next(next_marks) for _ in one.tokens]))
            for one in unsure
        ]
        if not read.text:
            inside = [self._thinking.is_inside] * len(read.tokens)
            reads.append(read._replace(tokens=mark_reasoning(read.tokens, inside)))
        return reads

    def _add(self, read: "_Chunk", now: float) -> None:
        if self.gave_up:
            return
        event, text, tokens = read
        finish = event["choices"][0].get("finish_reason")
        committed = self._feed_watch(tokens, now)
        if finish is not None and not self.gave_up:
            self.call.finish = finish
        self._hold(event, text, committed)
        if committed and finish is not None:
            self._held.append(split_finish(event))

    def _hold(self, event: Event, text: str, committed: bool) -> None:
        self._texts.append(text)
        self._held.append(event)
        if committed:
            self._committed_events = len(self._held)
            self.call.kept = len(self.call.tokens)
            self._committed_texts = len(self._texts)

    def _add_tool_calls(self, delta: Body) -> None:
        """What a chunk brings beside text: parts of tool calls, or of a refusal."""
        for place, part in enumerate(delta.get("tool_calls") or ()):
            name, arguments = self._tool_calls.setdefault(tool_call_index(part, place), ([], []))
            function = part.get("function") or {}
            name.append(function.get("name") or "")
            arguments.append(function.get("arguments") or "")
        if delta.get("refusal"):
            self._refusal.append(delta["refusal"])

    def _feed_watch(self, tokens: Sequence[TokenLike], now: float) -> bool:
        verdict = Verdict.CONTINUE
        call = self.call
        try:
            for token in tokens:
                call.tokens.append(token)
                call.at.append(now)
                verdict = self.watch.token(token)
                if verdict is Verdict.GIVE_UP:
                    self.gave_up = True
                    self._note_verdict(verdict)
                    return False
        except Exception as error:
            self._check_tokens(error)
            raise
        return verdict is Verdict.COMMIT

    def _check_tokens(self, error: Exception) -> None:
        """Raises Garbage for a watch that failed on tokens of another shape than OpenAI's, which nobody looks at before
        a watch does. Those are the server's fault, and all else is the watch's."""
        call = self.call
        bad = next((place for place, token in enumerate(call.tokens) if not is_well_formed(token)), None)
        if bad is not None:
            del call.tokens[bad:], call.at[bad:]
            raise Garbage("a token's log-probabilities are not shaped as such") from error

    def _note_verdict(self, verdict: Verdict) -> None:
        self.call.verdict = verdict
        self.call.reason = self.watch.reason
        self.call.confidence = self.watch.confidence

    async def _release(self, reply: Sink) -> None:
        if not reply.begun:
            reason = self.watch.reason or self.call.ask.because
            self.exchange.decided = (self.call.tier, reason, self.watch.confidence)
        ready, self._held = self._held[: self._committed_events], self._held[self._committed_events :]
        self._committed_events = 0
        await reply.events(ready)


class PassthroughStream:
    """A stream that flows as it comes, from the first event that says something: those before it, which only name
    a role, decide no race and rule out no fallback. After it only events that speak of usage, of the finish or of an
    error are parsed; the last of them wait for the reply's end."""

    def __init__(self, exchange: Exchange, call: Call) -> None:
        self.exchange = exchange
        self.call = call
        self.usage: Usage | None = None
        self.usage_event: Body | None = None
        self._done = False
        self._has_begun = False
        self._withheld = bytearray()

    async def read(self, response: Response, reply: Sink) -> Draft:
        """Relays to the end. Raises Broken."""
        reader = UpstreamEvents()
        while data := await read_next(response, self.exchange, self.call, self._done):
            await self._send(self._filter_events(reader.read_blocks(data)), reply)
        await self._send(self._filter_events([block for block in (reader.flush(),) if block]), reply)
        if not self._done and self.call.finish is None:
            raise TransportError("lost", "the stream ended before the answer did", before_response=False)
        self._has_begun = True  # an answer without a word is one too
        await self._send(b"", reply)
        usage = self.usage or Usage(self.call.prompt_tokens, self.call.chunks, estimated=True)
        return Draft(self.call.tier, finish=self.call.finish or "stop", usage=usage)

    async def _send(self, out: bytes, reply: Sink) -> None:
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
            if not reply.begun:
                self.exchange.note_decision(self.call)
        await reply.raw(out)

    def _filter_events(self, blocks: list[bytes]) -> bytes:
        try:
            return b"".join([kept + b"\n\n" for block in blocks if (kept := self._filter_event(block))])
        except MISSHAPEN as error:
            raise Garbage("an event is not shaped as a chunk") from error

    def _filter_event(self, block: bytes) -> bytes:
        if self._has_begun and b'"finish_reason":null' in block and b'"usage":{' not in block:
            self.call.chunks += 1
            return block  # the common case, decided without parsing
        payload = payload_of(block)
        if payload == DONE:
            self._done = True
            return b""
        if not payload:
            # A comment before the first chunk would begin the reply, and rule out a fallback.
            return block if block.startswith(b":") and self.call.chunks else b""
        event = parse_event(payload)
        if (usage := usage_of(event)) is not None:
            self.usage = usage
        choices = event.get("choices")
        if not choices:
            self.usage_event = event if usage is not None else self.usage_event
            return b"" if usage is not None else block
        self.call.chunks += 1
        self.call.finish = choices[0].get("finish_reason") or self.call.finish
        self._has_begun = self._has_begun or _has_content(choices[0])
        if usage is not None and not self.exchange.wants_usage:
            del event["usage"]
            return b"data: " + orjson.dumps(event)
        return block


def _has_content(choice: Body) -> bool:
    """Whether a chunk's choice has more than a role."""
    delta = choice.get("delta") or {}
    said = any(value for name, value in delta.items() if name != "role")
    return said or bool(choice.get("text")) or choice.get("finish_reason") is not None
