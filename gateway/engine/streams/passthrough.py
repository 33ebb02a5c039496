"""Passes an upstream's stream through as it comes, if nobody watches it."""

from collections.abc import Sequence

from gateway.engine.attempt import Attempt
from gateway.engine.reply import Sink
from gateway.exchange.exchange import Exchange
from gateway.upstreams.transport.transport import Garbage, Response, TransportError
from gateway.wire.fast_chunks import PlainChunks
from gateway.wire.sse import MAX_EVENT, EventReader, payload_of
from routers.plan import Draft

from .attempt_reader import AttemptReader
from .chunks import has_content


class PassthroughStream(AttemptReader):
    """Passes a stream through, from the first event that says something.

    Earlier events only name a role: they decide no race and rule out no fallback. Later ones are read only if they
    have more than text.
    """

    def __init__(self, exchange: Exchange, attempt: Attempt, sink: Sink) -> None:
        super().__init__(exchange, attempt, sink)
        self._has_begun = False
        self._may_be_plain = False
        """Whether an event may go to the client unread: its role is named, and it is not after the end."""
        self._withheld: list[bytes] = []
        self._withheld_bytes = 0
        self._plain_chunks = PlainChunks(exchange.endpoint)

    async def read(self, response: Response) -> Draft:
        """Pass the response through to its end. Raises TransportError, LostRace."""
        reader, gap = EventReader(Garbage), None
        try:
            while data := await response.next(gap):
                await self._relay(reader.read_blocks(data))
                if self.chunks.has_ended:
                    gap = self.grace.max_gap()
        except TransportError as error:
            self.grace.check_ended(error)
        await self._relay([block for block in (reader.flush(),) if block])
        await self._send(self._end())
        usage = self.usage.to_usage(self.call.prompt_tokens, self.call.chunks)
        return self._conclude(Draft(self.call.tier, finish=self.call.finish, usage=usage))

    def _end(self) -> list[bytes]:
        """Return the chunks that end the answer. Raises TransportError if it has not ended."""
        chunks = [*self.chunks.end()]
        if self.chunks.is_done:
            chunks += self.chunks.finish_rest()
        if self.chunks.finish is None or not self.chunks.has_ended:
            raise TransportError("lost", "the stream ended before the answer did", before_response=False)
        self.call.finish = self.chunks.finish
        self._has_begun = True  # an answer without a word is one too
        return [chunk.encode() for chunk in chunks]

    async def _relay(self, blocks: Sequence[bytes]) -> None:
        """Send what the client gets of these events. If one fails, a reply that has begun gets those before it."""
        parts: list[bytes] = []
        try:
            for block in blocks:
                if self._may_be_plain and self._plain_chunks.has(block):
                    self.call.chunks += 1
                    self._has_begun = True
                    parts.append(block + b"\n\n")
                else:
                    parts += self._read_odd_event(block)
        except TransportError:
            if self.call.first is not None:
                await self._send(parts)
            raise
        await self._send(parts)

    async def _send(self, parts: list[bytes]) -> None:
        if not self._has_begun:
            self._withhold(parts)
            return
        if self._withheld:
            parts = [*self._withheld, *parts]
            self._withheld.clear()
        if not parts:
            return
        if self.call.first is None:
            self.call.first = self.exchange.elapsed()
            if not self.sink.begun:
                self.exchange.note_decision(self.call)
        await self.sink.raw(b"".join(parts))

    def _withhold(self, parts: list[bytes]) -> None:
        self._withheld += parts
        self._withheld_bytes += sum(map(len, parts))
        if self._withheld_bytes > MAX_EVENT:
            raise Garbage(f"events without a word are over the limit of {MAX_EVENT} bytes")

    def _read_odd_event(self, block: bytes) -> Sequence[bytes]:
        """Return what the client gets of an event that may have more than text."""
        chunks = self.chunks.read(block)
        for chunk in chunks:
            if has_content(chunk.choice):
                self.call.chunks += 1
                self._has_begun = True
        is_alone = self.chunks.choice_count == 1
        self._may_be_plain = is_alone and self.chunks.has_begun and not self.chunks.has_ended
        if chunks or not block.startswith(b":") or self.chunks.is_done or payload_of(block):
            return [chunk.encode() for chunk in chunks]
        # A comment before the first chunk would begin the reply, and rule out a fallback.
        return (block + b"\n\n",) if self.chunks.has_begun else ()
