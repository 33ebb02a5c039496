"""An exchange's upstream calls: let through the door, put to a tier's upstreams in turn, sent, accounted for."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeVar

from gateway.exchange.exchange import Call, Exchange
from gateway.skills.transforms import encode_request, wrap_response
from gateway.timers import Deadlines, TaskTimeout
from gateway.upstreams.pool import Pool, fallbacks_after
from gateway.upstreams.transport.transport import TransportError
from gateway.upstreams.upstream import Call as Sent
from gateway.upstreams.upstream import Upstream
from gateway.wire import requests
from gateway.wire.body_types import Body
from gateway.wire.requirements import Requirements
from routers.plan import NO_USAGE, Ask, Both, Generate, Judge, Question, Say, Score, Skill, Tier, Unavailable

from .admission import Admission

T = TypeVar("T")

LARGE_BODY = 32_768
"""Bytes of a request from which on what is made of it is rewritten in a thread."""


class UpstreamRequest(NamedTuple):
    """What is sent: a body, or bytes that leave as they came; `last`: no other upstream is left to be asked."""

    url: str
    body: Body | bytes
    stream: bool = False
    patience: float = 0.0
    last: bool = True


class Dispatcher:
    """Of one exchange. `scorer` is the upstream whose token ids its plan carries."""

    def __init__(self, pools: Mapping[Tier, Pool], exchange: Exchange, deadlines: Deadlines) -> None:
        self._admission = Admission(pools, exchange)
        self._exchange = exchange
        self._deadlines = deadlines
        self._timeout: TaskTimeout | None = None
        self.scorer: Upstream | None = None

    def start_clock(self) -> None:
        """Starts the clock of the policy's ceiling on time."""
        seconds = self._exchange.policy.ceilings.seconds
        self._timeout = TaskTimeout(self._deadlines, seconds) if seconds is not None else None

    def stop_clock(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()

    def is_out_of_time(self) -> bool:
        """Asked of a CancelledError: whether it is the ceiling on time that has cancelled, and not a client that left,
        be it after the time was over."""
        if self._timeout is None:
            return False
        if self._timeout.consume():
            self._admission.is_expired = True
        return self._admission.is_expired and not self._timeout.overruled

    def check_time(self, ask: Say) -> None:
        """Raises Unavailable once the exchange's time is over, for an ask that makes no call of its own."""
        self._admission.check_time(ask)

    async def dispatch(
        self,
        ask: Generate | Question | Skill,
        needs: Requirements,
        attempt: Callable[[Call, Upstream, bool], Awaitable[T]],
        share: float = 1.0,
    ) -> T:
        """Asks the tier's upstreams in turn, until one answers or has failed as the others would."""
        prompt_tokens = requests.estimate_prompt_tokens(self._exchange.raw)
        if ask.tier == "llm":
            prompt_tokens = max(1, prompt_tokens - self._exchange.compressed_tokens)
        pool, left = self._admission.candidates(ask, needs)
        if isinstance(ask, (Generate, Score)) and ask.after:
            left = [self.scorer_of(ask)]
        while True:
            upstream = pool.choose(left)
            allowed = self._admission.token_limit(ask, upstream.price, prompt_tokens, share)
            call = self._open_account(ask, upstream, prompt_tokens, allowed)
            try:
                return await attempt(call, upstream, not left)
            except Unavailable as lost:
                left = fallbacks_after(lost, upstream, left)
                if not left:
                    raise
                call.retried = True

    def scorer_of(self, ask: Generate | Score | Say) -> Upstream:
        """Who gave the token ids that the ask carries. Raises Unavailable for a plan that has none from anybody."""
        if self.scorer is None:
            raise self._admission.refuse("incapable", ask, "token ids of a text that nobody has scored")
        return self.scorer

    def _open_account(
        self, ask: Generate | Question | Skill, upstream: Upstream, prompt_tokens: int, allowed: int | None
    ) -> Call:
        named = ask.model if isinstance(ask, Judge) else self._exchange.needs.model
        call = Call(
            ask=ask,
            tier=ask.tier,
            upstream=upstream.name,
            model=named or upstream.model,
            price=upstream.price,
            started=self._exchange.elapsed(),
            prompt_tokens=prompt_tokens,
            allowed=None if allowed is None else allowed * self._exchange.choice_count(ask),
        )
        self._exchange.calls.append(call)
        return call

    async def send(self, call: Call, upstream: Upstream, request: UpstreamRequest) -> Sent:
        """Raises Unavailable."""
        transforms = self._exchange.transforms
        content = await self._serialize(upstream, request.body)
        began = time.perf_counter()

        def sending() -> None:
            call.sent = self._exchange.elapsed()

        try:
            sent = await upstream.send(
                request.url,
                content,
                stream=request.stream,
                restart_wait_s=request.patience,
                is_last=request.last,
                on_send=sending,
            )
        finally:
            self._exchange.upstream_wait_s += time.perf_counter() - began
        if transforms:
            sent.response = wrap_response(transforms, upstream, sent.response)
        return sent

    async def _serialize(self, upstream: Upstream, body: Body | bytes) -> bytes:
        """Large bodies are rewritten in a thread, since looking through one for private data takes its time. Raises
        Unavailable."""
        exchange = self._exchange
        if exchange.transforms and len(exchange.raw) >= LARGE_BODY:
            return await asyncio.to_thread(encode_request, exchange.transforms, upstream, body)
        return encode_request(exchange.transforms, upstream, body)

    async def fetch(self, upstream: Upstream, page: str, body: Body) -> bytes:
        """What a page of the upstream answers that writes nothing. Raises Unavailable, Broken."""
        content = await self._serialize(upstream, body)
        began = time.perf_counter()
        try:
            sent = await upstream.send(upstream.url(page), content, stream=False)
            try:
                return await sent.response.read()
            finally:
                sent.close()
        finally:
            self._exchange.upstream_wait_s += time.perf_counter() - began

    @asynccontextmanager
    async def accounted(self, call: Call, upstream: Upstream, needs: Requirements) -> AsyncIterator[None]:
        """Settles the account of a call that writes nothing for the client, however it ends. Raises Unavailable where
        it ends without an outcome."""
        try:
            check_fit(upstream, needs)
            yield
        except asyncio.CancelledError:
            raise note_failure(call, self.explain_cancelled_call(call)) from None
        except TransportError as broken:
            raise note_failure(
                call, Unavailable(broken.why, call.tier, f"{upstream.name}: {broken}")
            ) from broken
        except Unavailable as lost:
            raise note_failure(call, lost)  # noqa: B904  it is the same
        except Exception:
            call.outcome = "stopped"
            raise
        finally:
            call.settle(self._exchange.elapsed(), None if call.usage is NO_USAGE else call.usage)

    def explain_cancelled_call(self, call: Call) -> Unavailable:
        """How a call ends that was cancelled: in what to tell the plan where it ran out of time. Raises CancelledError
        where the client has gone."""
        if not self.is_out_of_time():
            call.outcome = "cancelled"
            raise asyncio.CancelledError
        return Unavailable("ceiling", call.tier, "out of time")

    def explain_cancellation(self, ask: Ask) -> Unavailable:
        """How an ask ends that was cancelled while no call of its own was there to be `cut_off`: in what to tell the
        plan where it ran out of time. Raises CancelledError where the client has gone."""
        if self.is_out_of_time():
            return self._admission.refuse("ceiling", ask.a if isinstance(ask, Both) else ask, "out of time")
        if isinstance(ask, Say):  # other asks have the call on the account that the client left
            self._admission.note_outcome("cancelled", ask, "the client left")
        raise asyncio.CancelledError


def check_fit(upstream: Upstream, needs: Requirements) -> None:
    """Raises Unavailable for what the upstream can't do."""
    if not upstream.can_serve(needs) and (lack := upstream.find_mismatch(needs)):
        raise lack


def note_failure(call: Call, lost: Unavailable) -> Unavailable:
    """Notes on the call's account why it has no outcome."""
    call.outcome, call.message, call.begun = lost.why, str(lost), lost.partial is not None
    return lost
