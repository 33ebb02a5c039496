"""Runs one exchange's plan: performs what the plan asks for, and commits its answer."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import TypeVar

from gateway.errors import ApiError, internal_error, shutting_down
from gateway.exchange.error_mapping import to_api_error
from gateway.exchange.exchange import Exchange
from gateway.exchange.guard_report import report_guard
from gateway.timers import Deadlines, Shutdown
from gateway.upstreams.pool import Pool
from gateway.wire.body_types import Body
from gateway.wire.responses import summed
from routers.plan import Answer, Ask, Both, Fragment, Generate, Judge, Outcome, Score, Tier, Unavailable
from routers.plan_run import PlanRun

from .admission import PlanClosed
from .dispatch import Dispatcher
from .generation import GenerateCalls
from .judge.calls import JudgeCalls
from .race import race
from .reply import Reply
from .streams.passthrough import PassthroughStream
from .streams.watched import WatchedStream
from .verified_text import VerifiedText

log = logging.getLogger(__name__)

T = TypeVar("T")

CLIENT_GONE = 499
"""The status of an exchange whose client has left, as nginx has it. Nobody receives it."""


class Runner:
    """Runs a plan for one exchange, into its reply."""

    def __init__(
        self,
        pools: Mapping[Tier, Pool],
        exchange: Exchange,
        reply: Reply,
        deadlines: Deadlines,
        shutdown: Shutdown,
    ) -> None:
        self.dispatcher = Dispatcher(pools, exchange, deadlines, shutdown)
        self._shutdown = shutdown
        self.pools = pools
        self.exchange = exchange
        self._reply = reply
        self._verified_text = VerifiedText(exchange, self.dispatcher)
        self._generation = GenerateCalls(exchange, self.dispatcher, pools, reply, self._verified_text)

    @cached_property
    def _judge_calls(self) -> JudgeCalls:
        return JudgeCalls(self.exchange, self.dispatcher)

    async def answer(self, leave: Callable[[Exchange], None]) -> None:
        """Answer the exchange by its policy's plan. An exchange without an answer gets an error.

        `leave` gets the exchange once, when it is over, however it ended.
        """
        exchange = self.exchange
        try:
            exchange.answer = await self.run(exchange.policy.plan(exchange.request))
            await self._conclude(exchange.answer)
        except Unavailable as failure:
            await self._reply.fail(note_failure(exchange, failure))
        except asyncio.CancelledError:
            if not (self._reply.finished and self._shutdown.is_due):
                if (error := note_cancellation(exchange, self._shutdown)) is None:
                    raise
                await self._reply.fail(error)
        except Exception:
            log.exception("exchange %s failed", exchange.id)
            await self._reply.fail(note_error(exchange, internal_error()))
        finally:
            exchange.seconds = exchange.elapsed()
            try:
                if exchange.answer is None:
                    exchange.account()
            finally:
                leave(exchange)

    async def run(self, plan: Fragment[T]) -> T:
        """Send outcomes into the plan until it returns, and return its result. Raises what the plan lets through."""
        self.dispatcher.start_clock()
        try:
            run = PlanRun(plan)
            while (ask := run.ask) is not None:
                try:
                    outcome = await self._perform(ask)
                except PlanClosed:
                    raise
                except Unavailable as failure:
                    run.tell(failure)
                except asyncio.CancelledError:
                    run.tell(self.dispatcher.explain_cancellation(ask))
                else:
                    run.tell(outcome)
            return run.result
        finally:
            plan.close()
            self.dispatcher.stop_clock()

    async def run_skill(self, work: Awaitable[T]) -> T:
        """Return what a skill gives that is asked by itself, within the policy's ceiling on seconds."""
        self.dispatcher.start_clock()
        try:
            return await work
        finally:
            self.dispatcher.stop_clock()

    def _perform(self, ask: Ask) -> Awaitable[Outcome]:
        if isinstance(ask, Generate):
            return self._generation.write(ask, self._reply)
        if isinstance(ask, Both):
            return race(
                ask,
                self._reply,
                lambda each, leg: self._generation.write(each, leg, share=0.5 if each is ask.a else 1.0),
                self.dispatcher.is_out_of_time,
            )
        if isinstance(ask, Judge):
            return self._judge_calls.judge(ask)
        if isinstance(ask, Score):
            return self._judge_calls.score(ask)
        scorer = self.dispatcher.scorer_of(ask)
        self._reply.trim(False)
        return self._verified_text.commit(ask, scorer.upstream, self._reply)

    async def _conclude(self, answer: Answer) -> None:
        """Commit what the answer still holds back, then end the reply with its figures."""
        self.exchange.account()
        if self.exchange.policy.guard is not None:
            report_guard(self.exchange)
        usage_event = await self._release(answer)
        if self._verified_text.model:
            usage_event = usage_event or self._verified_text.build_usage_event()
        if usage_event is not None and (len(answer.parts) > 1 or self._verified_text.model):
            usage_event["usage"] = summed(answer, usage_event["usage"])
        await self._reply.finish(usage_event)

    async def _release(self, answer: Answer) -> Body | None:
        """Release the drafts that make up the answer, and return the last chunk of the stream that ends it."""
        usage_event = None
        for reader in self._generation.readers:
            if isinstance(reader, PassthroughStream):
                usage_event = reader.usage.chunk
        for reader in self._generation.readers:
            if isinstance(reader, WatchedStream) and reader.is_part_of(answer):
                await reader.release_all(self._reply)
                usage_event = reader.usage.chunk
                if reader.gave_up:  # what it has stands all the same
                    await self._verified_text.finish(reader.call.model, "length", self._reply)
        return usage_event


def note_failure(exchange: Exchange, failure: Unavailable) -> ApiError:
    """Note the failure that a plan has ended in, and return the error that it is to the client."""
    report_guard(exchange)
    messages = [call.message for call in exchange.calls if call.message]
    return note_error(exchange, to_api_error(failure, messages))


def note_error(exchange: Exchange, error: ApiError) -> ApiError:
    exchange.status, exchange.error, exchange.error_reason = error.status, error.code, error.reason
    return error


def note_cancellation(exchange: Exchange, shutdown: Shutdown) -> ApiError | None:
    """Note who ended an exchange from outside. Return the error for its client; None if the client has left."""
    if shutdown.is_due:
        return note_error(exchange, shutting_down())
    exchange.cancelled, exchange.status = True, CLIENT_GONE
    return None


def run_fragment(fragment: Fragment[T]) -> Callable[[Runner], Awaitable[T]]:
    """Return the task of running a fragment of a plan."""
    return lambda runner: runner.run(fragment)
