"""An exchange's upstream calls: let through the door, put to a tier's upstreams in turn, sent, accounted for."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeVar

from gateway.exchange.exchange import Call, Exchange
from gateway.skills.transform import arriving, leaving
from gateway.timers import Deadlines, Limit
from gateway.upstreams.pool import Pool, might_cure
from gateway.upstreams.transport.transport import Broken
from gateway.upstreams.upstream import Call as Sent
from gateway.upstreams.upstream import Upstream
from gateway.wire import requests
from gateway.wire.requirements import Needs
from gateway.wire.shapes import Body
from routers.plan import NO_USAGE, Ask, Both, Generate, Judge, Question, Say, Score, Skill, Tier, Unavailable

from .admission import Door

T = TypeVar("T")

LARGE = 32_768
"""Bytes of a request from which on what is made of it is rewritten in a thread."""


class Request(NamedTuple):
    """What is sent: a body, or bytes that leave as they came; `last`: no other upstream is left to be asked."""

    url: str
    body: Body | bytes
    stream: bool = False
    patience: float = 0.0
    last: bool = True


class Calling:
    """Of one exchange. `scorer` is the upstream whose token ids its plan carries."""

    def __init__(self, pools: Mapping[Tier, Pool], exchange: Exchange, deadlines: Deadlines) -> None:
        self._door = Door(pools, exchange)
        self._exchange = exchange
        self._deadlines = deadlines
        self._limit: Limit | None = None
        self.scorer: Upstream | None = None

    def begin(self) -> None:
        """Starts the clock of the policy's ceiling on time."""
        seconds = self._exchange.policy.ceilings.seconds
        self._limit = Limit(self._deadlines, seconds) if seconds is not None else None

    def end(self) -> None:
        if self._limit is not None:
            self._limit.end()

    def out_of_time(self) -> bool:
        """Asked of a CancelledError: whether it is the ceiling on time that has cancelled, and not a client that left,
        be it after the time was over."""
        if self._limit is None:
            return False
        if self._limit.caught():
            self._door.expired = True
        return self._door.expired and not self._limit.overruled

    def check_time(self, ask: Say) -> None:
        """Raises Unavailable once the exchange's time is over, for an ask that makes no call of its own."""
        self._door.check_time(ask)

    async def in_turn(
        self,
        ask: Generate | Question | Skill,
        needs: Needs,
        attempt: Callable[[Call, Upstream, bool], Awaitable[T]],
        share: float = 1.0,
    ) -> T:
        """Asks the tier's upstreams in turn, until one answers or has failed as the others would."""
        prompt_tokens = requests.estimated_prompt_tokens(self._exchange.raw)
        if ask.tier == "llm":
            prompt_tokens = max(1, prompt_tokens - self._exchange.spared)
        pool, left = self._door.candidates(ask, needs)
        if isinstance(ask, (Generate, Score)) and ask.after:
            left = [self.whose_ids(ask)]
        while True:
            upstream = pool.choose(left)
            allowed = self._door.allowance(ask, upstream.price, prompt_tokens, share)
            call = self._called(ask, upstream, prompt_tokens, allowed)
            try:
                return await attempt(call, upstream, not left)
            except Unavailable as lost:
                left = might_cure(lost, upstream, left)
                if not left:
                    raise
                call.retried = True

    def whose_ids(self, ask: Generate | Score | Say) -> Upstream:
        """Who gave the token ids that the ask carries. Raises Unavailable for a plan that has none from anybody."""
        if self.scorer is None:
            raise self._door.refused("incapable", ask, "token ids of a text that nobody has scored")
        return self.scorer

    def _called(
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
            allowed=None if allowed is None else allowed * self._exchange.choices(ask),
        )
        self._exchange.calls.append(call)
        return call

    async def send(self, call: Call, upstream: Upstream, request: Request) -> Sent:
        """Raises Unavailable."""
        transforms = self._exchange.transforms
        content = await self._leaving(upstream, request.body)
        began = time.perf_counter()

        def sending() -> None:
            call.sent = self._exchange.elapsed()

        try:
            sent = await upstream.send(
                request.url,
                content,
                stream=request.stream,
                patience=request.patience,
                last=request.last,
                leaving=sending,
            )
        finally:
            self._exchange.waited += time.perf_counter() - began
        if transforms:
            sent.response = arriving(transforms, upstream, sent.response)
        return sent

    async def _leaving(self, upstream: Upstream, body: Body | bytes) -> bytes:
        """Large bodies are rewritten in a thread, since looking through one for private data takes its time. Raises
        Unavailable."""
        exchange = self._exchange
        if exchange.transforms and len(exchange.raw) >= LARGE:
            return await asyncio.to_thread(leaving, exchange.transforms, upstream, body)
        return leaving(exchange.transforms, upstream, body)

    async def told(self, upstream: Upstream, page: str, body: Body) -> bytes:
        """What a page of the upstream answers that writes nothing. Raises Unavailable, Broken."""
        content = await self._leaving(upstream, body)
        began = time.perf_counter()
        try:
            sent = await upstream.send(upstream.url(page), content, stream=False)
            try:
                return await sent.response.read()
            finally:
                sent.close()
        finally:
            self._exchange.waited += time.perf_counter() - began

    @asynccontextmanager
    async def accounted(self, call: Call, upstream: Upstream, needs: Needs) -> AsyncIterator[None]:
        """Settles the account of a call that writes nothing for the client, however it ends. Raises Unavailable where
        it ends without an outcome."""
        try:
            check_fit(upstream, needs)
            yield
        except asyncio.CancelledError:
            raise failed(call, self.cut_off(call)) from None
        except Broken as broken:
            raise failed(call, Unavailable(broken.why, call.tier, f"{upstream.name}: {broken}")) from broken
        except Unavailable as lost:
            raise failed(call, lost)  # noqa: B904  it is the same
        except Exception:
            call.outcome = "stopped"
            raise
        finally:
            call.settle(self._exchange.elapsed(), None if call.usage is NO_USAGE else call.usage)

    def cut_off(self, call: Call) -> Unavailable:
        """How a call ends that was cancelled: in what to tell the plan where it ran out of time. Raises CancelledError
        where the client has gone."""
        if not self.out_of_time():
            call.outcome = "cancelled"
            raise asyncio.CancelledError
        return Unavailable("ceiling", call.tier, "out of time")

    def cut_short(self, ask: Ask) -> Unavailable:
        """How an ask ends that was cancelled while no call of its own was there to be `cut_off`: in what to tell the
        plan where it ran out of time. Raises CancelledError where the client has gone."""
        if self.out_of_time():
            return self._door.refused("ceiling", ask.a if isinstance(ask, Both) else ask, "out of time")
        if isinstance(ask, Say):  # other asks have the call on the account that the client left
            self._door.note("cancelled", ask, "the client left")
        raise asyncio.CancelledError


def check_fit(upstream: Upstream, needs: Needs) -> None:
    """Raises Unavailable for what the upstream can't do."""
    if not upstream.fits(needs) and (lack := upstream.lacking(needs)):
        raise lack


def failed(call: Call, lost: Unavailable) -> Unavailable:
    """Notes on the call's account why it has no outcome."""
    call.outcome, call.message, call.begun = lost.why, str(lost), lost.partial is not None
    return lost
