"""Sends tokens that a plan has verified to the client, as text in the events of a stream."""

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
"""What a tokenizer decodes for a character whose last bytes are missing."""


class VerifiedText:
    """The verified text of one exchange. `token_count` is the number of its tokens."""

    def __init__(self, exchange: Exchange, dispatcher: Dispatcher) -> None:
        self._exchange = exchange
        self._dispatcher = dispatcher
        self._text = ""
        self.model = ""
        """The model whose tokens were sent; "" if none were."""
        self.token_count = 0

    async def commit(self, ask: Say, upstream: Upstream, sink: Sink) -> Said:
        """Send the ask's tokens, whose ids are the upstream's, to `sink`, and return the text so far.

        Raises Unavailable if the upstream can not decode them, or the exchange's time is over.
        """
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
        """End the answer of a model that was stopped, with a finish reason."""
        self.model = model
        await sink.events([self._build_event("", finish=finish)])

    async def _decode_new_text(self, ask: Say, upstream: Upstream) -> str:
        """Return the text that the ask's tokens add. Raises Unavailable.

        The server decodes all tokens each time, since a token's text depends on those before it.
        """
        ids = [*ask.after, *ask.ids]
        try:
            answer = await self._dispatcher.fetch(
                upstream, "detokenize", {"model": self.model, "tokens": ids}
            )
            with parsing("what /detokenize gives"):
                text = parse_detokenized(answer)
        except TransportError as error:
            raise self._note_failure(ask, upstream, Unavailable("garbage", ask.tier, str(error))) from error
        except Unavailable as failure:
            raise self._note_failure(ask, upstream, failure)  # noqa: B904  the same exception is raised
        if ask.finish is None:
            text = text.rstrip(INCOMPLETE_CHARACTER)
        added = text.removeprefix(self._text)
        self._text = text
        return added

    def _note_failure(self, ask: Say, upstream: Upstream, failure: Unavailable) -> Unavailable:
        """Note the failure among the exchange's calls, since replay can not derive it, and return it."""
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
        """Return the last chunk, to report the usage of an answer that consists only of verified tokens."""
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
