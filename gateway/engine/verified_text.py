"""Tokens that a plan has verified, as the client gets them: text, in the events of a stream."""

from gateway.exchange.exchange import Call, Exchange
from gateway.upstreams.transport.garbage import parsing
from gateway.upstreams.transport.transport import Broken
from gateway.upstreams.upstream import Upstream
from gateway.wire.shapes import Body, Event
from routers.cost import FREE
from routers.plan import Said, Say, Unavailable

from .dispatch import Calling
from .judge.vllm_scoring import detokenized
from .streams.watched import Sink

UNFINISHED = "\ufffd"
"""What a decoder writes for a character of which it has only the first bytes."""


class Saying:
    """Of one exchange."""

    def __init__(self, exchange: Exchange, calling: Calling) -> None:
        self._exchange = exchange
        self._calling = calling
        self._text = ""
        self.model = ""
        """Of the upstream whose tokens were said, where any were."""
        self.tokens = 0

    async def say(self, ask: Say, upstream: Upstream, sink: Sink) -> Said:
        """Raises Unavailable."""
        events = []
        self.model = upstream.model
        if not self.tokens:
            events.append(self._event("", role=True))
        if ask.ids:
            self._calling.check_time(ask)
            events.append(self._event(await self._grown(ask, upstream)))
            self.tokens = len(ask.after) + len(ask.ids)
        if ask.finish is not None:
            events.append(self._event("", finish=ask.finish))
        if self._exchange.decided is None:
            self._exchange.decided = ("slm+llm", ask.because, None)
        await sink.events(events)
        return Said(self._text)

    async def end(self, model: str, finish: str, sink: Sink) -> None:
        """Ends the answer of a writer that was stopped in its midst."""
        self.model = model
        await sink.events([self._event("", finish=finish)])

    async def _grown(self, ask: Say, upstream: Upstream) -> str:
        """What the text has more than before. The server decodes all of it each time: a token's text depends on
        those before it."""
        ids = [*ask.after, *ask.ids]
        try:
            answer = await self._calling.told(upstream, "detokenize", {"model": self.model, "tokens": ids})
            with parsing("what /detokenize gives"):
                text = detokenized(answer)
        except Broken as broken:
            raise self._failed(ask, upstream, Unavailable("garbage", ask.tier, str(broken))) from broken
        except Unavailable as lost:
            raise self._failed(ask, upstream, lost)  # noqa: B904  it is the same
        if ask.finish is None:
            text = text.rstrip(UNFINISHED)
        more = text.removeprefix(self._text)
        self._text = text
        return more

    def _failed(self, ask: Say, upstream: Upstream, lost: Unavailable) -> Unavailable:
        """On the account, since replay, which says what it likes, could not tell it."""
        exchange = self._exchange
        call = Call(ask, ask.tier, upstream.name, upstream.model, FREE, exchange.elapsed(), prompt_tokens=0)
        call.outcome, call.message = lost.why, str(lost)
        call.settle(exchange.elapsed(), None)
        exchange.calls.append(call)
        return lost

    def _event(self, text: str, *, role: bool = False, finish: str | None = None) -> Event:
        choice: Body = {"index": 0, "finish_reason": finish}
        if self._exchange.endpoint == "completions":
            return self._chunk([{**choice, "text": text, "logprobs": None}])
        delta = {"role": "assistant", "content": text} if role else {"content": text} if text else {}
        return self._chunk([{**choice, "delta": delta}])

    def usage_event(self) -> Body:
        """The last chunk, for the usage of an answer that nothing but verified tokens make up."""
        return self._chunk([]) | {"usage": {}}

    def _chunk(self, choices: list[Body]) -> Body:
        exchange = self._exchange
        chat = exchange.endpoint == "chat"
        return {
            "id": exchange.id,
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": int(exchange.at),
            "model": self.model,
            "choices": choices,
        }
