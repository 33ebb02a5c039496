"""Drives one exchange's plan: performs what the router asks for, through the one door."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import TypeVar

from gateway.api.internal_error import AccountedFault
from gateway.api.writers import PlainReply, Reply, to_nobody
from gateway.errors import ApiError, internal_error, to_api_error
from gateway.exchange.exchange import Call, Exchange
from gateway.exchange.guard_report import report_guard
from gateway.skills.transforms import UnusableAnswer
from gateway.timers import Deadlines
from gateway.upstreams.failures import Failure
from gateway.upstreams.pool import Pool
from gateway.upstreams.transport.transport import Response, TransportError
from gateway.upstreams.upstream import Upstream
from gateway.wire import requests
from gateway.wire.body_types import Body
from gateway.wire.requirements import Requirements, min_prompt_tokens
from gateway.wire.responses import summed
from policies.schema.compress import Compress
from routers.cost import FREE
from routers.plan import (
    Answer,
    Ask,
    Both,
    Draft,
    Fragment,
    Generate,
    Judge,
    Outcome,
    Score,
    Tier,
    Unavailable,
    Usage,
    Verdict,
)

from .admission import PlanClosed
from .compression import Compression, Compressor
from .dispatch import Dispatcher, UpstreamRequest, check_fit, note_failure
from .judge import vllm_scoring as scoring
from .judge.calls import JudgeCalls
from .race import LostRace, RaceLeg, race
from .streams.buffered import read_buffered
from .streams.watched import PassthroughStream, Sink, WatchedStream
from .verified_text import VerifiedText

log = logging.getLogger(__name__)

T = TypeVar("T")

CLIENT_GONE = 499
"""The status of an exchange whose client left, as nginx has it; nobody receives it."""


class Engine:
    """Performs plans. `leave` gets each exchange once, when it is over, however it ended."""

    def __init__(self, pools: Mapping[Tier, Pool], leave: Callable[[Exchange], None]) -> None:
        self.pools = pools
        self._leave = leave
        self._deadlines = Deadlines()

    async def run(self, exchange: Exchange, reply: Reply) -> None:
        """Answers the exchange into the reply; an exchange without an answer gets an error."""
        run = _Run(self.pools, exchange, reply, self._deadlines)
        try:
            exchange.answer = await run.drive(exchange.policy.plan(exchange.request))
            await run.conclude(exchange.answer)
        except Unavailable as lost:
            await reply.fail(_note_failure(exchange, lost))
        except asyncio.CancelledError:
            exchange.cancelled, exchange.status = True, CLIENT_GONE
            raise
        except Exception:
            log.exception("exchange %s failed", exchange.id)
            await reply.fail(_note_error(exchange, internal_error()))
        finally:
            exchange.seconds = exchange.elapsed()
            if exchange.answer is None:
                exchange.account()
            self._leave(exchange)

    async def perform(self, exchange: Exchange, fragment: Fragment[T]) -> T:
        """What a plan fragment gives, for an exchange `aside` that nobody gets a reply of: through the same door, in
        the same accounts. What it has written is held to its end. Raises Unavailable."""
        run = _Run(self.pools, exchange, PlainReply(to_nobody, exchange), self._deadlines)
        return await self._aside(exchange, run.drive(fragment))

    async def compress(self, exchange: Exchange, section: Compress) -> Compression:
        """What compression makes of the body of an exchange `aside`. Raises Unavailable."""
        run = _Run(self.pools, exchange, PlainReply(to_nobody, exchange), self._deadlines)
        return await self._aside(exchange, run.compress(section))

    async def _aside(self, exchange: Exchange, work: Awaitable[T]) -> T:
        try:
            return await work
        except Unavailable as lost:
            _note_failure(exchange, lost)
            raise
        except asyncio.CancelledError:
            exchange.cancelled, exchange.status = True, CLIENT_GONE
            raise
        except Exception as error:
            _note_error(exchange, internal_error())
            raise AccountedFault from error
        finally:
            exchange.seconds = exchange.elapsed()
            exchange.account()
            self._leave(exchange)


def _note_failure(exchange: Exchange, lost: Unavailable) -> ApiError:
    report_guard(exchange)
    return _note_error(
        exchange, to_api_error(lost, [call.message for call in exchange.calls if call.message])
    )


def _note_error(exchange: Exchange, error: ApiError) -> ApiError:
    exchange.status, exchange.error = error.status, error.code
    return error


class _Run:
    """One exchange under way: what is held until the plan has settled."""

    def __init__(
        self, pools: Mapping[Tier, Pool], exchange: Exchange, reply: Reply, deadlines: Deadlines
    ) -> None:
        self._calling = Dispatcher(pools, exchange, deadlines)
        self._saying = VerifiedText(exchange, self._calling)
        self._pools = pools
        self._exchange = exchange
        self._reply = reply
        self._followed: list[WatchedStream] = []
        self._usage_event: Body | None = None

    @cached_property
    def _questions(self) -> JudgeCalls:
        return JudgeCalls(self._exchange, self._calling)

    @cached_property
    def _compressing(self) -> Compressor:
        return Compressor(self._exchange, self._calling, self._pools)

    async def drive(self, plan: Fragment[T]) -> T:
        """Sends outcomes into the plan until it returns its answer. Raises what the plan lets through."""
        self._calling.start_clock()
        try:
            ask = next(plan)
            while True:
                try:
                    outcome = await self._perform(ask)
                except PlanClosed:
                    raise
                except Unavailable as lost:
                    ask = plan.throw(lost)
                except asyncio.CancelledError:
                    ask = plan.throw(self._calling.explain_cancellation(ask))
                else:
                    ask = plan.send(outcome)
        except StopIteration as settled:
            found: T = settled.value
            return found
        finally:
            plan.close()
            self._calling.stop_clock()

    async def compress(self, section: Compress) -> Compression:
        self._calling.start_clock()
        try:
            return await self._compressing.compress(self._exchange.body, section)
        finally:
            self._calling.stop_clock()

    async def conclude(self, answer: Answer) -> None:
        """Commits what the answer holds back, then the figures."""
        self._exchange.account()
        report_guard(self._exchange)
        for followed in self._followed:
            if any(followed.call.tokens is part.tokens for part in answer.parts):
                await followed.release_all(self._reply)
                self._usage_event = followed.usage_event
                if followed.gave_up:  # what it has stands all the same
                    await self._saying.finish(followed.call.model, "length", self._reply)
        if self._saying.model:
            self._usage_event = self._usage_event or self._saying.build_usage_event()
        if self._usage_event is not None and (len(answer.parts) > 1 or self._saying.model):
            self._usage_event["usage"] = summed(answer, self._usage_event["usage"])
        await self._reply.finish(self._usage_event)

    def _perform(self, ask: Ask) -> Awaitable[Outcome]:
        if isinstance(ask, Generate):
            return self._write(ask, self._reply)
        if isinstance(ask, Both):
            return race(
                self._reply,
                lambda lane: self._write(ask.a, lane, share=0.5),
                lambda lane: self._write(ask.b, lane),
                self._calling.is_out_of_time,
            )
        if isinstance(ask, Judge):
            return self._questions.judge(ask)
        if isinstance(ask, Score):
            return self._questions.score(ask)
        upstream = self._calling.scorer_of(ask)
        self._reply.trim(False)
        return self._saying.commit(ask, upstream, self._reply)

    async def _write(self, ask: Generate, sink: Sink, share: float = 1.0) -> Draft:
        self._exchange.show_passages(ask.passages)
        try:
            asked = await self._compressing.body_for_llm() if self._compresses(ask) else self._exchange.body
        except asyncio.CancelledError:
            if isinstance(sink, RaceLeg) and sink.lost:
                return self._outrun_unsent(ask)
            raise
        needs = self._needs(ask, asked)

        def attempt(call: Call, upstream: Upstream, last: bool) -> Awaitable[Draft]:
            return self._written(ask, asked, needs, call, upstream, sink, last)

        return await self._calling.dispatch(ask, needs, attempt, share)

    def _outrun_unsent(self, ask: Generate) -> Draft:
        """The other leg won while this one's request was being prepared."""
        call = Call(ask, ask.tier, "", "", FREE, started=self._exchange.elapsed(), prompt_tokens=0)
        call.outcome = "outrun"
        call.settle(self._exchange.elapsed(), None)
        self._exchange.calls.append(call)
        return Draft(ask.tier, verdict=Verdict.CONTINUE)

    def _needs(self, ask: Generate, asked: Body) -> Requirements:
        """A begun chat answer must be continued, not answered anew; a begun text always is."""
        needs = self._exchange.needs
        if needs.tokens and asked is not self._exchange.body:
            needs = needs._replace(tokens=min_prompt_tokens(asked, self._exchange.endpoint))
        if ask.after:
            return needs._replace(capabilities=needs.capabilities | {"scoring"})
        if ask.prefix and self._exchange.endpoint == "chat":
            return needs._replace(capabilities=needs.capabilities | {"prefill"})
        return needs

    async def _written(
        self,
        ask: Generate,
        asked: Body,
        needs: Requirements,
        call: Call,
        upstream: Upstream,
        sink: Sink,
        last: bool,
    ) -> Draft:
        exchange = self._exchange
        followed: WatchedStream | None = None
        usage: Usage | None = None
        try:
            most = _least(ask.max_tokens, call.allowed, exchange.choice_count(ask))
            url, body = self._request(ask, upstream, asked, most)
            followed = self._follow(ask, call)
            request = UpstreamRequest(
                url, body, followed is not None or exchange.request.stream, ask.patience, last
            )
            check_fit(upstream, needs)
            draft = await self._read(ask, call, upstream, request, followed, sink)
            usage = draft.usage
            call.outcome = "ok" if draft.finish else "stopped"
            if exchange.policy.compress is not None:  # nobody else asks how fast a server is
                _learn(upstream, call, usage)
            return draft
        except (asyncio.CancelledError, LostRace):
            if isinstance(sink, RaceLeg) and sink.lost:
                call.outcome = "outrun"
                return (
                    followed.draft_so_far()
                    if followed is not None
                    else Draft(ask.tier, verdict=Verdict.CONTINUE)
                )
            cut_off = self._calling.explain_cancelled_call(call)
            cut_off.partial = self._partial(call, followed)
            raise note_failure(call, cut_off) from None
        except Unavailable as lost:
            raise note_failure(call, lost)  # noqa: B904  it is the same
        except Exception:
            call.outcome = "stopped"
            raise
        finally:
            call.settle(exchange.elapsed(), usage)

    def _follow(self, ask: Generate, call: Call) -> WatchedStream | None:
        """What follows a call's draft; None for one that nobody watches."""
        if ask.watch is None:
            return None
        exchange = self._exchange
        as_chunk = scoring.to_chat_chunk if ask.after and exchange.endpoint == "chat" else None
        followed = WatchedStream(ask.watch(), exchange, call, as_chunk)
        self._followed.append(followed)
        return followed

    def _compresses(self, ask: Generate) -> bool:
        """Whether the model reads the request compressed: a large one does, where the policy says so, but for one that
        goes on from token ids."""
        return ask.tier == "llm" and not ask.after and self._exchange.policy.compress is not None

    def _request(
        self, ask: Generate, upstream: Upstream, asked: Body, most: int | None
    ) -> tuple[str, Body | bytes]:
        exchange = self._exchange
        endpoint = exchange.endpoint
        watched = ask.watch is not None and ask.logprobs
        stream = ask.watch is not None or exchange.request.stream
        if ask.after:
            begun = scoring.build_continuation(
                asked, self._questions.scorer_prompt, ask.after, upstream.model, most
            )
            return upstream.url("completions"), begun
        plain = not stream and most is None and ask.n is None and not ask.prediction
        model = exchange.needs.model or upstream.model  # an adapter has a name of its own
        as_is = asked is exchange.body and asked["model"] == model and "smallfirst" not in asked
        if plain and as_is and upstream.rewritten_fields.isdisjoint(asked):
            return upstream.url(endpoint), exchange.raw
        body = requests.build_upstream_request(asked, endpoint, model, stream=stream, needs_logprobs=watched)
        if ask.prefix:
            delivered = self._saying.token_count + sum(call.kept for call in exchange.calls)
            body = requests.build_continuation(body, endpoint, ask.prefix, delivered)
        if most is not None and endpoint != "embeddings":
            body = requests.limit_max_tokens(body, endpoint, most)
        if ask.n is not None:
            body["n"] = ask.n
        if ask.prediction:
            body = requests.add_prediction(body, ask.prediction)
        return upstream.url(endpoint), upstream.adapt_body(body, continues=bool(ask.prefix))

    async def _read(
        self,
        ask: Generate,
        call: Call,
        upstream: Upstream,
        request: UpstreamRequest,
        followed: WatchedStream | None,
        sink: Sink,
    ) -> Draft:
        sent = await self._calling.send(call, upstream, request)
        if ask.prefix != ask.prefix.rstrip() and not ask.after:
            self._reply.trim()
        try:
            draft = await self._receive(call, upstream, sent.response, followed, sink)
            upstream.record_success()
            return draft
        except TransportError as broken:
            if not isinstance(broken, UnusableAnswer):
                upstream.record_failure()
            if not self._reply.begun:
                self._exchange.decided = None
            partial = self._partial(call, followed)
            raise Failure(
                broken.why, call.tier, f"{upstream.name}: {broken}", upstream=upstream.name, partial=partial
            ) from broken
        finally:
            sent.close()

    def _partial(self, call: Call, followed: WatchedStream | None) -> Draft | None:
        """What the client has of a call's text."""
        if followed is not None:
            return followed.partial()
        begun = call.first is not None
        return Draft(call.tier, usage=Usage(call.prompt_tokens, estimated=True)) if begun else None

    async def _receive(
        self, call: Call, upstream: Upstream, response: Response, followed: WatchedStream | None, sink: Sink
    ) -> Draft:
        if followed is not None:
            return await followed.read(response, sink)
        if self._exchange.request.stream:
            relayed = PassthroughStream(self._exchange, call)
            draft = await relayed.read(response, sink)
            self._usage_event = relayed.usage_event
            return draft
        echoed = (
            requests.find_answer_prefix(self._exchange.body.get("messages") or [])
            if upstream.kind.echoes_prefill
            else ""
        )
        answer, draft = await read_buffered(response, self._exchange, call, echoed)
        await sink.response(answer)
        return draft


def _learn(upstream: Upstream, call: Call, usage: Usage) -> None:
    """How long the server took, of what it reports itself."""
    first = call.first if call.first is not None else next(iter(call.at), None)
    if call.sent is None or usage.estimated:
        return
    read = usage.prompt_tokens - usage.cached_tokens
    if first is not None:
        upstream.latency.record_call(read, 0, first - call.sent)
    elif call.ended is not None:
        upstream.latency.record_call(read, usage.completion_tokens, call.duration_s)


def _least(wanted: int | None, allowed: int | None, choices: int) -> int | None:
    """Tokens that each choice may have, where anything limits them."""
    if allowed is None:
        return wanted
    return allowed // choices if wanted is None else min(wanted, allowed // choices)
