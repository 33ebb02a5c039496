"""Drives one exchange's plan: performs what the router asks for, through the one door."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

import orjson
from yarl import URL

from gateway import wire
from gateway.exchange import Call, Exchange
from gateway.http.errors import ApiError, from_unavailable
from gateway.http.reply import Reply, StreamReply
from gateway.legs import Followed, Relayed, whole
from gateway.upstreams.failures import Failure
from gateway.upstreams.transport import Broken, Response
from gateway.upstreams.upstream import Upstream
from routers.plan import Answer, Ask, Draft, Generate, Plan, Tier, Unavailable, Usage

log = logging.getLogger(__name__)

CLIENT_GONE = 499
"""The status of an exchange whose client left, as nginx has it; nobody receives it."""

MOST_CALLS = 8
"""Upstream calls of one exchange, whatever its plan asks for."""


class Engine:
    """Performs plans. `leave` gets each exchange once, when it is over, however it ended."""

    def __init__(self, upstreams: Mapping[Tier, Upstream], leave: Callable[[Exchange], None]) -> None:
        self.upstreams = upstreams
        self._leave = leave

    async def run(self, exchange: Exchange, reply: Reply) -> None:
        """Answers the exchange into the reply; an exchange without an answer gets an error."""
        run = _Run(self.upstreams, exchange, reply)
        try:
            exchange.answer = await run.drive(exchange.policy.router.plan(exchange.request))
            await run.conclude(exchange.answer)
        except Unavailable as lost:
            await self._fail(exchange, reply, lost)
        except asyncio.CancelledError:
            exchange.cancelled, exchange.status = True, CLIENT_GONE
            raise
        except Exception:
            exchange.status, exchange.error = 500, "internal_error"
            log.exception("exchange %s failed", exchange.id)
            await reply.fail(
                ApiError(500, "internal_error", "the gateway failed; see its log", kind="api_error")
            )
        finally:
            exchange.seconds = exchange.elapsed()
            if exchange.answer is None:
                exchange.account()
            self._leave(exchange)

    async def _fail(self, exchange: Exchange, reply: Reply, lost: Unavailable) -> None:
        error = from_unavailable(lost, [call.message for call in exchange.calls if call.message])
        exchange.status, exchange.error = error.status, error.code
        await reply.fail(error)


class _Run:
    """One exchange under way: what is held until the plan has settled."""

    def __init__(self, upstreams: Mapping[Tier, Upstream], exchange: Exchange, reply: Reply) -> None:
        self._upstreams = upstreams
        self._exchange = exchange
        self._reply = reply
        self._followed: list[Followed] = []
        self._usage_event: wire.Body | None = None

    async def drive(self, plan: Plan) -> Answer:
        """Sends outcomes into the plan until it returns its answer. Raises what the plan lets through."""
        try:
            ask: Ask = next(plan)
            while True:
                try:
                    outcome = await self._perform(ask)
                except Unavailable as lost:
                    ask = plan.throw(lost)
                else:
                    ask = plan.send(outcome)
        except StopIteration as settled:
            answer: Answer = settled.value
            return answer
        finally:
            plan.close()

    async def conclude(self, answer: Answer) -> None:
        """Commits what the answer holds back, then the figures."""
        self._exchange.account()
        for followed in self._followed:
            if any(followed.draft is part for part in answer.parts):
                await followed.release_all(self._reply)
                self._usage_event = followed.usage_event
        if self._usage_event is not None and len(answer.parts) > 1:
            self._usage_event["usage"] = _summed(answer, self._usage_event["usage"])
        await self._reply.finish(self._usage_event)

    async def _perform(self, ask: Generate) -> Draft:
        upstream = self._door(ask.tier)
        url, body = self._request(ask, upstream)
        call = Call(
            ask=ask,
            tier=ask.tier,
            upstream=upstream.name,
            model=upstream.model,
            price=upstream.price,
            started=self._exchange.elapsed(),
            prompt_tokens=wire.estimated_prompt_tokens(self._exchange.raw),
        )
        self._exchange.calls.append(call)
        usage: Usage | None = None
        try:
            draft = await self._generate(ask, upstream, call, url, body)
            usage = draft.usage
            call.outcome = "ok" if draft.finish else "stopped"
            return draft
        except asyncio.CancelledError:
            call.outcome = "cancelled"
            raise
        except Unavailable as lost:
            call.outcome, call.message, call.begun = lost.why, str(lost), lost.partial is not None
            raise
        finally:
            call.settle(self._exchange.elapsed(), usage)

    def _door(self, tier: Tier) -> Upstream:
        """The one way out: every upstream call of an exchange passes here."""
        if len(self._exchange.calls) >= MOST_CALLS:
            raise Unavailable("ceiling", tier, f"more than {MOST_CALLS} upstream calls")
        upstream = self._upstreams.get(tier)
        if upstream is None:
            raise Unavailable("not_configured", tier, f"no {tier} is configured")
        return upstream

    def _request(self, ask: Generate, upstream: Upstream) -> tuple[URL, bytes]:
        exchange = self._exchange
        endpoint = exchange.endpoint
        watched = ask.watch is not None
        stream = watched or exchange.request.stream
        if not stream and exchange.body["model"] == upstream.model and "smallfirst" not in exchange.body:
            return upstream.url(endpoint), exchange.raw
        body = wire.outgoing(exchange.body, endpoint, upstream.model, stream=stream, watched=watched)
        if ask.prefix:
            delivered = sum(call.kept for call in exchange.calls)
            body = wire.continued(body, endpoint, ask.prefix, delivered)
        return upstream.url(endpoint), orjson.dumps(upstream.adapted(body, continues=bool(ask.prefix)))

    async def _generate(self, ask: Generate, upstream: Upstream, call: Call, url: URL, body: bytes) -> Draft:
        stream = ask.watch is not None or self._exchange.request.stream
        began = time.perf_counter()

        def leaving() -> None:
            call.sent = self._exchange.elapsed()

        try:
            sent = await upstream.send(url, body, stream=stream, patience=ask.patience, leaving=leaving)
        finally:
            self._exchange.waited += time.perf_counter() - began
        try:
            draft = await self._receive(ask, call, sent.response)
            upstream.worked()
            return draft
        except Broken as broken:
            upstream.broke()
            if not self._reply.begun:
                self._exchange.decided = None
            raise self._lost(broken, upstream, call) from broken
        finally:
            sent.close()

    async def _receive(self, ask: Generate, call: Call, response: Response) -> Draft:
        if ask.watch is not None:
            followed = Followed(ask.watch(), self._exchange, call)
            self._followed.append(followed)
            return await followed.read(response, self._reply)
        if isinstance(self._reply, StreamReply):
            relayed = Relayed(self._exchange, call)
            confidence = next(
                (done.confidence for done in self._exchange.calls if done.confidence is not None), None
            )
            self._exchange.decided = (ask.tier, ask.because, confidence)
            draft = await relayed.read(response, self._reply)
            self._usage_event = relayed.usage_event
            return draft
        answer, draft = await whole(response, self._exchange, call)
        await self._reply.whole(answer)
        return draft

    def _lost(self, broken: Broken, upstream: Upstream, call: Call) -> Failure:
        """A response that broke off. What the client already has goes to the plan as `partial`."""
        partial = None
        if call.kept:
            usage = Usage(call.prompt_tokens, call.kept, estimated=True)
            followed = self._followed[-1]
            partial = Draft(
                call.tier,
                followed.kept_text(),
                call.tokens[: call.kept],
                usage=usage,
                confidence=followed.watch.confidence,
                kept=call.kept,
            )
        elif self._reply.begun:
            partial = Draft(call.tier, usage=Usage(call.prompt_tokens, estimated=True))
        message = f"{upstream.name}: {broken}"
        return Failure(broken.why, call.tier, message, upstream=upstream.name, partial=partial)


def _summed(answer: Answer, last: wire.Body) -> wire.Body:
    """The client's usage of an answer in parts: the first writer's prompt, everyone's completion."""
    prompt = answer.parts[0].usage.prompt_tokens
    completion = sum(part.usage.completion_tokens for part in answer.parts)
    return last | {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
