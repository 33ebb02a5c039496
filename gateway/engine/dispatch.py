"""Performs an exchange's upstream calls: admitted, put to a tier's upstreams in turn, sent, read, accounted for."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TypeVar

import orjson

from gateway.exchange.call import Call
from gateway.exchange.exchange import Exchange
from gateway.skills.transforms import encode_request, wrap_response
from gateway.timers import Deadlines, Shutdown, TaskTimeout
from gateway.upstreams.failures import Failure
from gateway.upstreams.pool import Pool, fallbacks_after
from gateway.upstreams.resilience.retries import retry
from gateway.upstreams.transport.transport import TransportError
from gateway.upstreams.upstream import Call as OpenCall
from gateway.upstreams.upstream import Upstream
from gateway.wire.body_types import Body
from gateway.wire.requests import estimate_prompt_tokens
from gateway.wire.requirements import Requirements
from routers.plan import (
    NO_USAGE,
    Ask,
    Both,
    Generate,
    Judge,
    Question,
    Say,
    Score,
    Skill,
    Tier,
    Unavailable,
)

from .admission import Admission
from .attempt import Attempt, UpstreamRequest
from .judge.vllm_scoring import Prompt
from .race import LostRace

T = TypeVar("T")

LARGE_BODY = 32_768
"""Bytes from which on a request's body is rewritten in a thread: a search for private data takes its time."""


class Scorer(NamedTuple):
    """An upstream that has scored a text, and the exchange's prompt in its token ids."""

    upstream: Upstream
    prompt: Prompt


class Dispatcher:
    """Performs the calls of one exchange. `scorer` is whose token ids its plan carries, once a text was scored."""

    def __init__(
        self, pools: Mapping[Tier, Pool], exchange: Exchange, deadlines: Deadlines, shutdown: Shutdown
    ) -> None:
        self._admission = Admission(pools, exchange)
        self.exchange = exchange
        self._deadlines = deadlines
        self._shutdown = shutdown
        self._timeout: TaskTimeout | None = None
        self.scorer: Scorer | None = None

    def _now(self) -> float:
        """Return the seconds since the exchange began."""
        return time.perf_counter() - self.exchange.started

    def start_clock(self) -> None:
        """Start the policy's ceiling on seconds."""
        seconds = self.exchange.policy.ceilings.seconds
        self._timeout = TaskTimeout(self._deadlines, seconds) if seconds is not None else None

    def stop_clock(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()

    def is_out_of_time(self) -> bool:
        """Return whether a CancelledError came of the ceiling on seconds.

        It did not if the client has left, even after the time was over.
        """
        if self._timeout is None:
            return False
        if self._timeout.consume():
            self._admission.is_expired = True
        return self._admission.is_expired and not self._timeout.overruled

    def check_time(self, ask: Say) -> None:
        """Raise Unavailable if the exchange's time is over, for an ask that makes no call of its own."""
        self._admission.check_time(ask)

    def check_reading(self, call: Call, tokens: int) -> None:
        """Note that a call has read so many tokens by now. Raises Unavailable if they cost more than the ceiling."""
        call.prompt_tokens = max(call.prompt_tokens, tokens)
        self._admission.check_cost(call.tier)

    async def dispatch(
        self,
        ask: Generate | Question | Skill,
        requirements: Requirements,
        perform: Callable[[Attempt], Awaitable[T]],
        share: float = 1.0,
    ) -> T:
        """Put an ask to the tier's upstreams in turn, until one answers or has failed as the others would.

        `perform` sends an attempt's requests and reads their answers. `share` is the part of what the ceilings leave
        that this ask may take. Raises Unavailable, and LostRace for a leg whose race is lost.
        """
        prompt_tokens = estimate_prompt_tokens(self.exchange.raw)
        if ask.tier == "llm":
            prompt_tokens = max(1, prompt_tokens - self.exchange.compressed_tokens)
        pool, remaining = self._admission.candidates(ask, requirements)
        if isinstance(ask, (Generate, Score)) and ask.after:
            remaining = [self.scorer_of(ask).upstream]
        while True:
            upstream = pool.choose(remaining)
            limit = self._admission.token_limit(ask, upstream.price, prompt_tokens, share)
            call = self._open_account(ask, upstream, prompt_tokens, limit)
            retries = upstream.allow_retries(not remaining)
            attempt = Attempt(self, call, upstream, requirements, is_last=not remaining, retries=retries)
            try:
                return await self._attempt(attempt, perform)
            except Unavailable as failure:
                remaining = fallbacks_after(failure, upstream, remaining)
                if not remaining:
                    return await self._repeat(ask, attempt, failure, perform)
                call.retried = True

    async def _repeat(
        self,
        ask: Generate | Question | Skill,
        attempt: Attempt,
        failure: Unavailable,
        perform: Callable[[Attempt], Awaitable[T]],
    ) -> T:
        """Repeat an attempt whose server reported an error before it wrote anything, as one with a status is repeated.

        Each repeat is a call of its own on the account. Raises the last failure, and LostRace for a leg whose race is
        lost while it waits.
        """
        retries = attempt.retries
        if not attempt.is_repeatable or retries is None or not isinstance(failure, Failure):
            raise failure
        upstream, last = attempt.upstream, attempt.call

        async def repeat() -> T:
            nonlocal last
            before, last = last, self._open_account(ask, upstream, last.prompt_tokens, None)
            before.retried, last.allowed = True, before.allowed
            again = Attempt(self, last, upstream, attempt.needs, is_last=True, retries=retries)
            return await self._attempt(again, perform)

        try:
            return await retry(repeat, failure, retries)
        except asyncio.CancelledError:
            raise self._explain_cancelled_wait(attempt, last) from None

    def _explain_cancelled_wait(self, attempt: Attempt, call: Call) -> Exception:
        """Return what ended the wait for a repeat of this call, and note it on the call's account.

        Raises CancelledError if the client has left.
        """
        call.seconds = self._now() - call.started
        if attempt.reader is not None and attempt.reader.has_lost_race():
            call.outcome = "outrun"
            return LostRace()
        failure = self._explain_cancelled_call(call)
        call.outcome, call.message = failure.why, str(failure)
        return failure

    async def _attempt(self, attempt: Attempt, perform: Callable[[Attempt], Awaitable[T]]) -> T:
        """Perform one attempt, and settle its account however it ends."""
        call, upstream = attempt.call, attempt.upstream
        try:
            if not upstream.can_serve(attempt.needs) and (lack := upstream.find_mismatch(attempt.needs)):
                raise lack
            while True:
                try:
                    return await perform(attempt)
                except Failure as refusal:
                    if not attempt.drop_refused_field(refusal):
                        raise
        except (asyncio.CancelledError, LostRace):
            if attempt.reader is not None and attempt.reader.has_lost_race():
                call.outcome = "outrun"
                raise LostRace from None
            raise _note_failure(attempt, self._explain_cancelled_call(call)) from None
        except TransportError as broken:
            failure = Failure(broken.why, call.tier, f"{upstream.name}: {broken}", upstream=upstream.name)
            raise _note_failure(attempt, failure) from broken
        except Unavailable as failure:
            raise _note_failure(attempt, failure)  # noqa: B904  it is the same
        except Exception:
            call.outcome = "stopped"
            raise
        finally:
            call.settle(self._now(), None if call.usage is NO_USAGE else call.usage)

    def scorer_of(self, ask: Generate | Score | Say) -> Scorer:
        """Return whose token ids the ask carries. Raises Unavailable if nothing has been scored."""
        if self.scorer is None:
            raise self._admission.refuse("incapable", ask, "token ids of a text that nobody has scored")
        return self.scorer

    def _open_account(
        self, ask: Generate | Question | Skill, upstream: Upstream, prompt_tokens: int, limit: int | None
    ) -> Call:
        model = ask.model if isinstance(ask, Judge) else self.exchange.needs.model
        call = Call(
            ask=ask,
            tier=ask.tier,
            upstream=upstream.name,
            model=model or upstream.model,
            price=upstream.price,
            started=self._now(),
            prompt_tokens=prompt_tokens,
            allowed=None if limit is None else limit * self.exchange.choice_count(ask),
        )
        self.exchange.calls.append(call)
        return call

    async def send(self, attempt: Attempt, request: UpstreamRequest) -> OpenCall:
        """Send an attempt's request and return the call once its response begins. Raises Unavailable."""
        call, upstream, exchange = attempt.call, attempt.upstream, self.exchange
        content = await self._serialize(upstream, request.body)
        known = upstream.capability_names
        began = time.perf_counter()

        def note_departure() -> None:
            # While the call waited for the engine, it may have been learned what the engine lacks.
            if upstream.capability_names is not known and (lack := upstream.find_mismatch(attempt.needs)):
                raise lack
            call.sent = self._now()

        try:
            opened = await upstream.send(
                request.url,
                content,
                stream=request.stream,
                restart_wait_s=request.patience,
                is_last=attempt.is_last,
                retries=attempt.retries,
                on_send=note_departure,
            )
        finally:
            exchange.upstream_wait_s += time.perf_counter() - began
        if exchange.transforms:
            opened.response = wrap_response(exchange.transforms, upstream, opened.response)
        return opened

    async def fetch(self, upstream: Upstream, page: str, body: Body) -> Body:
        """POST to an auxiliary endpoint (tokenize, detokenize) and return the JSON that it gives.

        Raises Unavailable, TransportError.
        """
        content = await self._serialize(upstream, body)
        began = time.perf_counter()
        try:
            return await upstream.fetch(page, content)
        finally:
            self.exchange.upstream_wait_s += time.perf_counter() - began

    async def _serialize(self, upstream: Upstream, body: Body | bytes) -> bytes:
        """Return a body's bytes as the exchange's transforms let them leave. Raises Unavailable."""
        exchange = self.exchange
        if not exchange.transforms:
            return body if isinstance(body, bytes) else orjson.dumps(body)
        if len(exchange.raw) >= LARGE_BODY:
            return await asyncio.to_thread(encode_request, exchange.transforms, upstream, body)
        return encode_request(exchange.transforms, upstream, body)

    def explain_cancellation(self, ask: Ask) -> Unavailable:
        """Return what the plan is told of an ask that was cancelled outside of any attempt: its time is over.

        Raises CancelledError if the client has left or the gateway stops.
        """
        if self.is_out_of_time():
            return self._admission.refuse("ceiling", ask.a if isinstance(ask, Both) else ask, "out of time")
        if isinstance(ask, Say):  # other asks have a call on the account that says so
            self._admission.note_outcome(self._cancelled_outcome(), ask, "it was cancelled")
        raise asyncio.CancelledError

    def _cancelled_outcome(self) -> str:
        return "shutdown" if self._shutdown.is_due else "cancelled"

    def _explain_cancelled_call(self, call: Call) -> Unavailable:
        """Return what the plan is told of a cancelled call. Raises CancelledError if the client has left or the
        gateway stops."""
        if not self.is_out_of_time():
            call.outcome = self._cancelled_outcome()
            raise asyncio.CancelledError
        return Unavailable("ceiling", call.tier, "out of time")


def _note_failure(attempt: Attempt, failure: Unavailable) -> Unavailable:
    """Note on the call's account why it has no outcome, and in the failure what the client has of its draft."""
    exchange = attempt.exchange
    if isinstance(attempt.call.ask, Generate) and exchange.ttft is None:
        exchange.decided = None  # nothing has left: another model may write
    if attempt.reader is not None and failure.partial is None:
        failure.partial = attempt.reader.partial()
    call = attempt.call
    call.outcome, call.message, call.begun = failure.why, str(failure), failure.partial is not None
    return failure
