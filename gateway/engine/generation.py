"""Performs the Generate asks of one exchange: builds the request, and chooses how its response is read."""

import asyncio
from collections.abc import Awaitable, Mapping
from functools import cached_property

from gateway.exchange.call import Call
from gateway.exchange.exchange import Exchange
from gateway.upstreams.pool import Pool
from gateway.upstreams.upstream import Upstream
from gateway.wire import requests
from gateway.wire.body_types import Body
from gateway.wire.requirements import Requirements, min_prompt_tokens
from routers.cost import FREE
from routers.plan import Draft, Generate, Tier

from .attempt import Attempt, UpstreamRequest
from .compression import Compressor
from .dispatch import Dispatcher
from .judge import vllm_scoring
from .race import LostRace, RaceLeg
from .reply import Reply, Sink
from .streams.buffered import BufferedResponse
from .streams.passthrough import PassthroughStream
from .streams.watched import WatchedStream
from .verified_text import VerifiedText

Reader = WatchedStream | PassthroughStream | BufferedResponse


class GenerateCalls:
    """Performs the Generate asks of one exchange. `readers` have read its drafts, in the order of the attempts."""

    def __init__(
        self,
        exchange: Exchange,
        dispatcher: Dispatcher,
        pools: Mapping[Tier, Pool],
        reply: Reply,
        verified_text: VerifiedText,
    ) -> None:
        self._exchange = exchange
        self._dispatcher = dispatcher
        self._pools = pools
        self._reply = reply
        self._verified_text = verified_text
        self.readers: list[Reader] = []

    @cached_property
    def _compressor(self) -> Compressor:
        return Compressor(self._exchange, self._dispatcher, self._pools)

    def write(self, ask: Generate, sink: Sink, share: float = 1.0) -> Awaitable[Draft]:
        """Return the draft that a tier writes into the sink. `share` as of Dispatcher.dispatch.

        Raises Unavailable, and LostRace for a leg whose race is lost.
        """
        if self._exchange.passages is not None:
            self._exchange.show_passages(ask.passages)
        if self._compresses(ask):
            return self._write_compressed(ask, sink, share)
        return self._write(ask, self._exchange.body, sink, share)

    def _compresses(self, ask: Generate) -> bool:
        """Return whether a large model reads the prompt compressed. One that goes on from token ids does not."""
        return ask.tier == "llm" and not ask.after and self._exchange.policy.compress is not None

    async def _write_compressed(self, ask: Generate, sink: Sink, share: float) -> Draft:
        try:
            prompt = await self._compressor.body_for_llm()
        except asyncio.CancelledError:
            if isinstance(sink, RaceLeg) and sink.lost:
                self._note_unsent(ask)
                raise LostRace from None
            raise
        return await self._write(ask, prompt, sink, share)

    def _note_unsent(self, ask: Generate) -> None:
        """Account for a leg whose race was lost while its request was being prepared."""
        call = Call(ask, ask.tier, "", "", FREE, started=self._exchange.elapsed(), prompt_tokens=0)
        call.outcome = "outrun"
        call.settle(self._exchange.elapsed(), None)
        self._exchange.calls.append(call)

    def _write(self, ask: Generate, prompt: Body, sink: Sink, share: float) -> Awaitable[Draft]:
        def perform(attempt: Attempt) -> Awaitable[Draft]:
            request = self._build_request(ask, prompt, attempt)
            attempt.reader = reader = self._open_reader(ask, attempt, sink)
            return attempt.post(request, reader.read)

        return self._dispatcher.dispatch(ask, self._find_requirements(ask, prompt), perform, share)

    def _find_requirements(self, ask: Generate, prompt: Body) -> Requirements:
        """Return what an upstream must be able to do. To go on from a begun chat answer takes assistant prefill."""
        needs = self._exchange.needs
        if needs.tokens and prompt is not self._exchange.body:
            needs = needs._replace(tokens=min_prompt_tokens(prompt, self._exchange.endpoint))
        if ask.after:
            return needs._replace(capabilities=needs.capabilities | {"scoring"})
        if ask.prefix and self._exchange.endpoint == "chat":
            return needs._replace(capabilities=needs.capabilities | {"prefill"})
        return needs

    def _open_reader(self, ask: Generate, attempt: Attempt, sink: Sink) -> Reader:
        exchange = self._exchange
        reader: Reader
        if ask.watch is not None:
            as_chunk = vllm_scoring.to_chat_chunk if ask.after and exchange.endpoint == "chat" else None
            reader = WatchedStream(exchange, attempt, sink, ask.watch(), as_chunk)
        elif exchange.request.stream:
            reader = PassthroughStream(exchange, attempt, sink)
        else:
            reader = BufferedResponse(exchange, attempt, sink)
        self.readers.append(reader)
        return reader

    def _build_request(self, ask: Generate, prompt: Body, attempt: Attempt) -> UpstreamRequest:
        """Return the request for one upstream. If nothing needs changing, the client's bytes leave as they came."""
        exchange, upstream = self._exchange, attempt.upstream
        limit = ask.max_tokens
        if (allowed := attempt.call.allowed) is not None:
            per_choice = allowed // exchange.choice_count(ask)
            limit = per_choice if limit is None else min(limit, per_choice)
        stream = ask.watch is not None or exchange.request.stream
        if ask.after:
            scored = self._dispatcher.scorer_of(ask).prompt
            body = vllm_scoring.build_continuation(prompt, scored, ask.after, upstream.model, limit)
            return UpstreamRequest(upstream.url("completions"), body, stream, ask.patience)
        content: Body | bytes = exchange.raw
        if stream or limit is not None or not self._leaves_unchanged(ask, prompt, upstream):
            content = self._build_body(ask, prompt, upstream, limit, stream=stream)
        on_response = self._reply.trim if ask.prefix != ask.prefix.rstrip() else None
        return UpstreamRequest(upstream.url(exchange.endpoint), content, stream, ask.patience, on_response)

    def _leaves_unchanged(self, ask: Generate, prompt: Body, upstream: Upstream) -> bool:
        if prompt is not self._exchange.body or ask.n is not None or ask.prefix or ask.prediction:
            return False
        if prompt["model"] != (self._exchange.needs.model or upstream.model) or "smallfirst" in prompt:
            return False
        return upstream.rewritten_fields.isdisjoint(prompt)

    def _build_body(
        self, ask: Generate, prompt: Body, upstream: Upstream, limit: int | None, *, stream: bool
    ) -> Body:
        exchange = self._exchange
        endpoint = exchange.endpoint
        model = exchange.needs.model or upstream.model  # an adapter has a name of its own
        watched = ask.watch is not None and ask.logprobs
        body = requests.build_upstream_request(prompt, endpoint, model, stream=stream, needs_logprobs=watched)
        if ask.prefix:
            delivered = self._verified_text.token_count + sum(call.kept for call in exchange.calls)
            body = requests.build_continuation(body, endpoint, ask.prefix, delivered)
        if limit is not None and endpoint != "embeddings":
            body = requests.limit_max_tokens(body, endpoint, limit)
        if ask.n is not None:
            body["n"] = ask.n
        if ask.prediction:
            body = requests.add_prediction(body, ask.prediction)
        return upstream.adapt_body(body, continues=bool(ask.prefix))
