"""Reads an upstream's stream into a draft under a watch, token by token."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gateway.engine.attempt import Attempt
from gateway.engine.reply import Sink
from gateway.exchange.exchange import Exchange
from gateway.upstreams.transport.malformed import MISSHAPEN
from gateway.upstreams.transport.transport import Garbage, Response, TransportError
from gateway.wire.body_types import Body, Event
from gateway.wire.chunks.reasoning import TAG_START, THINK_END, ReasoningTracker
from gateway.wire.chunks.tool_calls import ToolCalls
from gateway.wire.fast_chunks import PlainChunk, parse_plain_chunk
from gateway.wire.responses import (
    is_well_formed,
    mark_reasoning,
    split_finish,
    text_of,
    tokens_of,
    trim_logprobs,
)
from gateway.wire.sse import EventReader, payload_of
from routers.plan import Answer, Draft, Reason, TokenLike, ToolCall, Usage, Verdict, Watch
from routers.structure.flaws import find_flaw

from .attempt_reader import AttemptReader
from .chunks import Chunk


class _WatchedChunk(NamedTuple):
    """A parsed chunk, the text that it adds, and its tokens."""

    event: Body
    text: str
    tokens: Sequence[TokenLike]


class WatchedStream(AttemptReader):
    """Reads a draft under a watch, and holds its events until the watch commits them.

    `as_chunk` turns the events of another endpoint into those of the exchange's.
    """

    def __init__(
        self,
        exchange: Exchange,
        attempt: Attempt,
        sink: Sink,
        watch: Watch,
        as_chunk: Callable[[Body], Body] | None = None,
    ) -> None:
        super().__init__(exchange, attempt, sink)
        self.chunks.as_chunk = as_chunk
        self.watch = watch
        self.gave_up = False
        self._reasoning = ReasoningTracker()
        self._undecided: deque[_WatchedChunk] = deque()
        self._marks: list[bool] = []
        self._wanted_logprobs = exchange.wanted_logprobs
        self._reads_plainly = self._wanted_logprobs is None and exchange.endpoint == "chat"
        self._held: list[Event] = []
        self._committed_events = 0
        self._texts: list[str] = []
        self._committed_texts = 0
        self._tool_calls = ToolCalls()
        self._refusal: list[str] = []

    async def read(self, response: Response) -> Draft:
        """Read the response to its end or to a GIVE_UP. Raises TransportError, LostRace, and what the watch raises."""
        try:
            await self._follow(response)
        except TransportError:
            if self._committed_events:  # the client gets what was committed before the failure
                await self._release(self.sink)
            raise
        if not self.gave_up:
            self.call.ended = self.exchange.elapsed()
            self.call.flaw = self._find_flaw()
            self._end_watch()
            if self.call.verdict is Verdict.COMMIT:
                self.call.kept = len(self.call.tokens)
                await self.release_all(self.sink)
        return self._conclude(self.draft_so_far())

    async def _follow(self, response: Response) -> None:
        reader, gap = EventReader(Garbage), None
        try:
            while data := await response.next(gap):
                self._feed(reader.feed(data))
                if self._committed_events:
                    await self._release(self.sink)
                if self.gave_up:
                    return
                if self.chunks.has_ended:
                    gap = self.grace.max_gap()
        except TransportError as error:
            self.grace.check_ended(error)
        self._feed([payload for payload in (payload_of(reader.flush()),) if payload])
        self._add_all(self.chunks.end(), self.exchange.elapsed())
        if not self.gave_up and (self.call.finish is None or not self.chunks.has_ended):
            raise TransportError("lost", "the stream ended before the answer did", before_response=False)

    def _end_watch(self) -> None:
        try:
            self._note_verdict(self.watch.end(self.call.finish, self.call.flaw))
        except Exception as error:
            self._check_tokens(error)
            raise

    def is_part_of(self, answer: Answer) -> bool:
        """Return whether the draft is one of the answer's parts."""
        return any(self.call.tokens is part.tokens for part in answer.parts)

    async def release_all(self, sink: Sink) -> None:
        """Commit what is still held, since the plan has settled on this draft."""
        self._committed_events = len(self._held)
        self._committed_texts = len(self._texts)
        if self._committed_events:
            await self._release(sink)

    def draft_so_far(self) -> Draft:
        """Return what has been written until now."""
        call = self.call
        return Draft(
            tier=call.tier,
            text="".join(self._texts),
            tokens=call.tokens,
            finish=call.finish,
            usage=self.usage.to_usage(call.prompt_tokens, len(call.tokens)),
            verdict=call.verdict or Verdict.CONTINUE,
            reason=call.reason,
            confidence=call.confidence,
            kept=call.kept,
            committed_text="".join(self._texts[: self._committed_texts]),
            tool_calls=self._tool_calls_so_far(),
            seconds=call.duration_s,
        )

    def partial(self) -> Draft | None:
        """Return what the client has of the draft, as a draft of its own; None if it has nothing."""
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
        return [ToolCall(call.name, call.text) for call in self._tool_calls.calls]

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
            if (plain := self._parse_plain_chunk(payload)) is not None:
                self._hold(plain.payload, plain.text, self._feed_watch(plain.tokens, now))
            else:
                self._add_all(self.chunks.parse(payload), now)
            if self.gave_up:
                return

    def _parse_plain_chunk(self, payload: bytes) -> PlainChunk | None:
        """Parse a chunk the fast way. Return None if it must be parsed whole: the first, which names the role, those
        after the end, and one that may hold reasoning."""
        if not self._reads_plainly or self._reasoning.is_inside or self._reasoning.partial_tag:
            return None
        if not self.chunks.has_begun or self.chunks.has_ended:
            return None
        chunk = parse_plain_chunk(payload)
        return None if chunk is None or TAG_START in chunk.text else chunk

    def _add_all(self, chunks: Sequence[Chunk], now: float) -> None:
        """Show chunks to the watch, as far as it may see them now. Raises Garbage.

        The watch is not called inside the `try`: what a watch raises is not the server's fault.
        """
        for chunk in chunks:
            try:
                ready = self._read_tokens(chunk)
            except MISSHAPEN as error:
                raise Garbage("an event is not shaped as a chunk") from error
            for each in ready:
                self._add(each, now)

    def _read_tokens(self, chunk: Chunk) -> "Sequence[_WatchedChunk]":
        choice = chunk.choice
        text = text_of(choice)
        tokens = tokens_of(choice, text)
        self._add_tool_calls(choice.get("delta") or {})
        watched = _WatchedChunk(trim_logprobs(chunk.body, self._wanted_logprobs), text, tokens)
        if self._reasoning.partial_tag or self._reasoning.is_inside or TAG_START in text:
            return self._mark_reasoning(watched)
        return (watched,)

    def _mark_reasoning(self, chunk: "_WatchedChunk") -> "Sequence[_WatchedChunk]":
        """Return the chunk, and those withheld before it, once it is known which of their tokens are reasoning.

        Only text, and what follows text at once, has tags.
        """
        last = not chunk.text or chunk.event["choices"][0].get("finish_reason") is not None
        texts = [token.text for token in chunk.tokens] if chunk.text else []
        self._marks += self._reasoning.mark_tokens(texts, is_last=last)
        if chunk.text:
            self._undecided.append(chunk)
        chunks = []
        while self._undecided and len(self._undecided[0].tokens) <= len(self._marks):
            decided = self._undecided.popleft()
            count = len(decided.tokens)
            chunks.append(decided._replace(tokens=mark_reasoning(decided.tokens, self._marks[:count])))
            del self._marks[:count]
        if not chunk.text:
            inside = [self._reasoning.is_inside] * len(chunk.tokens)
            chunks.append(chunk._replace(tokens=mark_reasoning(chunk.tokens, inside)))
        return chunks

    def _add(self, chunk: "_WatchedChunk", now: float) -> None:
        if self.gave_up:
            return
        event, text, tokens = chunk
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
        """Add a chunk's parts of tool calls and of a refusal."""
        self._tool_calls.read(delta.get("tool_calls") or ())
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
        """Raise Garbage if the watch has failed on tokens of another shape than OpenAI's.

        Nobody checks tokens before a watch reads them. Malformed ones are the server's fault, all else is the watch's.
        """
        call = self.call
        bad = next((place for place, token in enumerate(call.tokens) if not is_well_formed(token)), None)
        if bad is not None:
            del call.tokens[bad:], call.at[bad:]
            raise Garbage("a token's log-probabilities are not shaped as such") from error

    def _note_verdict(self, verdict: Verdict) -> None:
        self.call.verdict = verdict
        self.call.reason = self.watch.reason
        self.call.confidence = self.watch.confidence

    async def _release(self, sink: Sink) -> None:
        if not sink.begun:
            reason = self.watch.reason or self.call.ask.because
            self.exchange.decided = (self.call.tier, reason, self.watch.confidence)
        ready, self._held = self._held[: self._committed_events], self._held[self._committed_events :]
        self._committed_events = 0
        await sink.events(ready)
