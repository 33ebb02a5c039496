"""Tokens that a plan has verified, as the client gets them: text, in the events of a stream."""

from gateway.exchange.call import Call
from gateway.exchange.exchange import Exchange
from gateway.upstreams.transport.malformed import parsing
from gateway.upstreams.transport.transport import TransportError
from gateway.upstreams.upstream import Upstream
from gateway.wire.body_types import Body, Event
from routers.cost import FREE
from routers.plan import Said, Say, Unavailable

from .dispatch import Dispatcher
from .judge.vllm_scoring import parse_detokenized
from .reply import Sink

INCOMPLETE_CHARACTER = "\ufffd"
"""What a decoder writes for a character of which it has only the first bytes."""


class VerifiedText:
    """Of one exchange."""

    def __init__(self, exchange: Exchange, dispatcher: Dispatcher) -> None:
        self._exchange = exchange
        self._dispatcher = dispatcher
        self._text = ""
        self.model = ""
        """Of the upstream whose tokens were said, where any were."""
        self.token_count = 0

    async def commit(self, ask: Say, upstream: Upstream, sink: Sink) -> Said:
        """Raises Unavailable."""
        events = []
        self.model = upstream.model
        if not self.token_count:
            events.append(self._build_event("", role=True))
        if ask.ids:
            self._dispatcher.check_time(ask)
            events.append(self._build_event(await self._decode_new_text(ask, upstream)))
            self.token_count = len(ask.after) + len(ask.ids)
        if ask.finish is not None:
            events.append(self._build_event("", finish=ask.finish))
        if self._exchange.decided is None:
            self._exchange.decided = ("slm+llm", ask.because, None)
        await sink.events(events)
        return Said(self._text)

    async def finish(self, model: str, finish: str, sink: Sink) -> None:
        """Ends the answer of a writer that was stopped in its midst."""
        self.model = model
        await sink.events([self._build_event("", finish=finish)])

    async def _decode_new_text(self, ask: Say, upstream: Upstream) -> str:
        """What the text has more than before. The server decodes all of it each time: a token's text depends on
        those before it."""
        ids = [*ask.after, *ask.ids]
        try:
            answer = await self._dispatcher.fetch(
                upstream, "detokenize", {"model": self.model, "tokens": ids}
            )
            with parsing("what /detokenize gives"):
                text = parse_detokenized(answer)
        except TransportError as broken:
            raise self._note_failure(ask, upstream, Unavailable("garbage", ask.tier, str(broken))) from broken
        except Unavailable as failure:
            raise self._note_failure(ask, upstream, failure)  # noqa: B904  it is the same
        if ask.finish is None:
            text = text.rstrip(INCOMPLETE_CHARACTER)
        added = text.removeprefix(self._text)
        self._text = text
        return added

    def _note_failure(self, ask: Say, upstream: Upstream, failure: Unavailable) -> Unavailable:
        """On the account, since replay, which says what it likes, could not tell it."""
        exchange = self._exchange
        call = Call(ask, ask.tier, upstream.name, upstream.model, FREE, exchange.elapsed(), prompt_tokens=0)
        call.outcome, call.message = failure.why, str(failure)
        call.settle(exchange.elapsed(), None)
        exchange.calls.append(call)
        return failure

    def _build_event(self, text: str, *, role: bool = False, finish: str | None = None) -> Event:
        choice: Body = {"index": 0, "finish_reason": finish}
        if self._exchange.endpoint == "completions":
            return self._build_chunk([{**choice, "text": text, "logprobs": None}])
        delta = {"role": "assistant", "content": text} if role else {"content": text} if text else {}
        return self._build_chunk([{**choice, "delta": delta}])

    def build_usage_event(self) -> Body:
        """The last chunk, for the usage of an answer that nothing but verified tokens make up."""
        return self._build_chunk([]) | {"usage": {}}

    def _build_chunk(self, choices: list[Body]) -> Body:
        exchange = self._exchange
        chat = exchange.endpoint == "chat"
        return {
            "id": exchange.id,
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": int(exchange.at),
            "model": self.model,
            "choices": choices,
        }
