"""How an upstream's stream becomes a draft: followed token by token, or relayed as it comes."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import orjson

from gateway.exchange.exchange import Call, Exchange
from gateway.upstreams.transport.garbage import MISSHAPEN, UpstreamEvents
from gateway.upstreams.transport.transport import Broken, Garbage, Response
from gateway.wire.fast_chunks import PlainChunk, plain_chunk
from gateway.wire.reasoning import OPENING, THINK_END, Thinking
from gateway.wire.responses import (
    call_index,
    finish_apart,
    is_well_formed,
    marked,
    text_of,
    tokens_of,
    trim_logprobs,
    usage_of,
)
from gateway.wire.shapes import Body, Event
from gateway.wire.sse import MAX_EVENT, payload_of
from routers.plan import Draft, Reason, TokenLike, ToolCall, Usage, Verdict, Watch
from routers.structure.flaws import flaw

from .events import next_read, parsed

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

    async def whole(self, body: bytes) -> None: ...


class _Read(NamedTuple):
    """A chunk that was read whole, the text it adds, and its tokens."""

    event: Body
    text: str
    tokens: Sequence[TokenLike]


class Followed:
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
        self._thinking = Thinking()
        self._unsure: list[_Read] = []
        self._wanted_logprobs = exchange.wanted_logprobs
        self._reads_plainly = self._wanted_logprobs is None and exchange.endpoint == "chat"
        self._hides_usage = exchange.request.stream and not exchange.wants_usage
        self._held: list[Event] = []
        self._ready = 0
        self._texts: list[str] = []
        self._kept_texts = 0
        self._tool_calls: dict[int, tuple[list[str], list[str]]] = {}
        self._refusal: list[str] = []

    async def read(self, response: Response, reply: Sink) -> Draft:
        """Follows the response to its end or to a GIVE_UP. Raises Broken, and what the watch raises."""
        try:
            await self._follow(response, reply)
        except Broken:
            if self._ready:  # what was committed is the client's, whatever came after it in the same read
                await self._release(reply)
            raise
        if not self.gave_up:
            self.call.ended = self.exchange.elapsed()
            self.call.flaw = self._flaw()
            self._end()
            if self.call.verdict is Verdict.COMMIT:
                self.call.kept = len(self.call.tokens)
                await self.release_all(reply)
        self.draft = self.so_far()
        return self.draft

    async def _follow(self, response: Response, reply: Sink) -> None:
        reader = UpstreamEvents()
        while data := await next_read(response, self.exchange, self.call, self._done):
            self._take_all(reader.feed(data))
            if self._ready:
                await self._release(reply)
            if self.gave_up:
                return
        self._take_all([payload for payload in (payload_of(reader.rest()),) if payload])
        if self.call.finish is None and not self.gave_up:
            raise Broken("lost", "the stream ended before the answer did", fresh=False)

    def _end(self) -> None:
        try:
            self._conclude(self.watch.end(self.call.finish, self.call.flaw))
        except Exception as error:
            self._check_tokens(error)
            raise

    async def release_all(self, reply: Sink) -> None:
        """Commits what is still held: the plan settled on this draft."""
        self._ready = len(self._held)
        self._kept_texts = len(self._texts)
        if self._ready:
            await self._release(reply)

    def so_far(self) -> Draft:
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
            kept_text="".join(self._texts[: self._kept_texts]),
            calls=self._calls(),
            seconds=call.lasted,
        )

    def partial(self) -> Draft | None:
        """What the client has of it, if it has any: the draft's beginning as a draft of its own."""
        call = self.call
        if not call.kept:
            return None
        return Draft(
            call.tier,
            "".join(self._texts[: self._kept_texts]),
            call.tokens[: call.kept],
            usage=Usage(call.prompt_tokens, call.kept, estimated=True),
            confidence=self.watch.confidence,
            kept=call.kept,
        )

    def _calls(self) -> list[ToolCall]:
        return [
            ToolCall("".join(name), "".join(arguments))
            for _, (name, arguments) in sorted(self._tool_calls.items())
        ]

    def _flaw(self) -> Reason | None:
        text = "".join(self._texts).rpartition(THINK_END)[2]
        return flaw(
            text, self._calls(), self.call.finish, self.exchange.expected, "".join(self._refusal) or None
        )

    def _take_all(self, payloads: list[bytes]) -> None:
        now = self.exchange.elapsed()
        for payload in payloads:
            if payload == DONE:
                self._done = True
            elif (plain := self._plain(payload)) is not None:
                self._hold(plain.payload, plain.text, self._watched(plain.tokens, now))
            else:
                for read in self._parse(payload):
                    self._add(read, now)
            if self.gave_up:
                return

    def _plain(self, payload: bytes) -> PlainChunk | None:
        """None for a chunk that has to be read whole; one that may be of reasoning has, to be told token by token."""
        if not self._reads_plainly or self._thinking.inside or self._unsure:
            return None
        chunk = plain_chunk(payload)
        return None if chunk is None or OPENING in chunk.text else chunk

    def _parse(self, payload: bytes) -> "Sequence[_Read]":
        """What a chunk that is read whole lets the watch be told. Raises Garbage. No watch is asked in here: what one
        raises is not the server's fault."""
        try:
            event = parsed(payload)
            return self._reads(event if self._as_chunk is None else self._as_chunk(event))
        except MISSHAPEN as error:
            raise Garbage("an event is not shaped as a chunk") from error

    def _reads(self, event: Body) -> "Sequence[_Read]":
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
        self._take_other(choice.get("delta") or {})
        read = _Read(trim_logprobs(event, self._wanted_logprobs), text, tokens)
        if self._unsure or self._thinking.inside or OPENING in text:
            return self._marked(read)
        return (read,)

    def _marked(self, read: "_Read") -> "Sequence[_Read]":
        """What is read, and what was kept back before it, once it is told what of it is reasoning. Only text and what
        follows it at once has tags."""
        last = not read.text or read.event["choices"][0].get("finish_reason") is not None
        unsure = [*self._unsure, read] if read.text else self._unsure
        tokens = [token for one in unsure for token in one.tokens]
        marks = self._thinking.marks([token.text for token in tokens], last=last)
        if marks is None:
            self._unsure = unsure
            return ()
        self._unsure = []
        told = iter(marks)
        reads = [one._replace(tokens=marked(one.tokens, [next(told) for _ in one.tokens])) for one in unsure]
        if not read.text:
            inside = [self._thinking.inside] * len(read.tokens)
            reads.append(read._replace(tokens=marked(read.tokens, inside)))
        return reads

    def _add(self, read: "_Read", now: float) -> None:
        if self.gave_up:
            return
        event, text, tokens = read
        finish = event["choices"][0].get("finish_reason")
        committed = self._watched(tokens, now)
        if finish is not None and not self.gave_up:
            self.call.finish = finish
        self._hold(event, text, committed)
        if committed and finish is not None:
            self._held.append(finish_apart(event))

    def _hold(self, event: Event, text: str, committed: bool) -> None:
        self._texts.append(text)
        self._held.append(event)
        if committed:
            self._ready = len(self._held)
            self.call.kept = len(self.call.tokens)
            self._kept_texts = len(self._texts)

    def _take_other(self, delta: Body) -> None:
        """What a chunk brings beside text: parts of tool calls, or of a refusal."""
        for place, part in enumerate(delta.get("tool_calls") or ()):
            name, arguments = self._tool_calls.setdefault(call_index(part, place), ([], []))
            function = part.get("function") or {}
            name.append(function.get("name") or "")
            arguments.append(function.get("arguments") or "")
        if delta.get("refusal"):
            self._refusal.append(delta["refusal"])

    def _watched(self, tokens: Sequence[TokenLike], now: float) -> bool:
        verdict = Verdict.CONTINUE
        call = self.call
        try:
            for token in tokens:
                call.tokens.append(token)
                call.at.append(now)
                verdict = self.watch.token(token)
                if verdict is Verdict.GIVE_UP:
                    self.gave_up = True
                    self._conclude(verdict)
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

    def _conclude(self, verdict: Verdict) -> None:
        self.call.verdict = verdict
        self.call.reason = self.watch.reason
        self.call.confidence = self.watch.confidence

    async def _release(self, reply: Sink) -> None:
        if not reply.begun:
            reason = self.watch.reason or self.call.ask.because
            self.exchange.decided = (self.call.tier, reason, self.watch.confidence)
        ready, self._held = self._held[: self._ready], self._held[self._ready :]
        self._ready = 0
        await reply.events(ready)


class Relayed:
    """A stream that flows as it comes, from the first event that says something: those before it, which only name
    a role, decide no race and rule out no fallback. After it only events that speak of usage, of the finish or of an
    error are parsed; the last of them wait for the reply's end."""

    def __init__(self, exchange: Exchange, call: Call) -> None:
        self.exchange = exchange
        self.call = call
        self.usage: Usage | None = None
        self.usage_event: Body | None = None
        self._done = False
        self._speaks = False
        self._silent = bytearray()

    async def read(self, response: Response, reply: Sink) -> Draft:
        """Relays to the end. Raises Broken."""
        reader = UpstreamEvents()
        while data := await next_read(response, self.exchange, self.call, self._done):
            await self._send(self._pass(reader.blocks(data)), reply)
        await self._send(self._pass([block for block in (reader.rest(),) if block]), reply)
        if not self._done and self.call.finish is None:
            raise Broken("lost", "the stream ended before the answer did", fresh=False)
        self._speaks = True  # an answer without a word is one too
        await self._send(b"", reply)
        usage = self.usage or Usage(self.call.prompt_tokens, self.call.chunks, estimated=True)
        return Draft(self.call.tier, finish=self.call.finish or "stop", usage=usage)

    async def _send(self, out: bytes, reply: Sink) -> None:
        if not self._speaks:
            self._silent += out
            if len(self._silent) > MAX_EVENT:
                raise Garbage(f"events without a word are over the limit of {MAX_EVENT} bytes")
            return
        if self._silent:
            out = bytes(self._silent) + out
            self._silent.clear()
        if not out:
            return
        if self.call.first is None:
            self.call.first = self.exchange.elapsed()
            if not reply.begun:
                self.exchange.decide(self.call)
        await reply.raw(out)

    def _pass(self, blocks: list[bytes]) -> bytes:
        try:
            return b"".join([kept + b"\n\n" for block in blocks if (kept := self._kept(block))])
        except MISSHAPEN as error:
            raise Garbage("an event is not shaped as a chunk") from error

    def _kept(self, block: bytes) -> bytes:
        if self._speaks and b'"finish_reason":null' in block and b'"usage":{' not in block:
            self.call.chunks += 1
            return block  # the common case, decided without parsing
        payload = payload_of(block)
        if payload == DONE:
            self._done = True
            return b""
        if not payload:
            # A comment before the first chunk would begin the reply, and rule out a fallback.
            return block if block.startswith(b":") and self.call.chunks else b""
        event = parsed(payload)
        if (usage := usage_of(event)) is not None:
            self.usage = usage
        choices = event.get("choices")
        if not choices:
            self.usage_event = event if usage is not None else self.usage_event
            return b"" if usage is not None else block
        self.call.chunks += 1
        self.call.finish = choices[0].get("finish_reason") or self.call.finish
        self._speaks = self._speaks or _says_something(choices[0])
        if usage is not None and not self.exchange.wants_usage:
            del event["usage"]
            return b"data: " + orjson.dumps(event)
        return block


def _says_something(choice: Body) -> bool:
    """Whether a chunk's choice has more than a role."""
    delta = choice.get("delta") or {}
    said = any(value for name, value in delta.items() if name != "role")
    return said or bool(choice.get("text")) or choice.get("finish_reason") is not None
