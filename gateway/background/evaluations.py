"""Background evaluations: a share of all answers is judged after delivery, whichever tier wrote them.

Evaluations never delay an answer. One runs at a time, and only while no request is in flight. When a request
arrives, the evaluation is cancelled and its upstream call closed; it starts again once no request is in
flight.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import orjson

from gateway.exchange.captured import Kept
from gateway.exchange.exchange import Exchange, plain
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.transport.garbage import MISSHAPEN
from policies.schema.evaluate import Evaluate
from routers.plan import Fragment, Unavailable

from .evaluators import NAME, Evaluator, Output, Result, evaluated, output_of, qualities
from .hourly_budget import Hourly

log = logging.getLogger(__name__)

MOST_WAITING = 64
"""Maximum number of answers that wait for evaluation. Further samples are dropped."""
MOST_BEGUN = 3
"""Maximum attempts at one evaluation that requests interrupt. Every attempt costs money."""


class _Drawn(NamedTuple):
    """A sampled exchange with its kept answer."""

    exchange: Exchange
    wanted: Evaluate
    begun: int = 0


class Evaluations:
    """Evaluates a share of the finished exchanges, as their policies ask."""

    def __init__(
        self, perform: Callable[[Exchange, Fragment[list[Result]]], Awaitable[list[Result]]], metrics: Metrics
    ) -> None:
        self._perform = perform
        self._metrics = metrics
        self._waiting: deque[_Drawn] = deque()
        self._task: asyncio.Task[None] | None = None
        self._hourly = Hourly()
        self._closed = False

    def draw(self, exchange: Exchange) -> bool:
        """Sample a starting exchange for evaluation. Return whether it is sampled; then its answer is
        kept."""
        wanted = exchange.policy.evaluate
        if wanted is None or exchange.endpoint == "embeddings" or not exchange.request.judgeable:
            return False
        if random.random() >= wanted.share:  # noqa: S311  no secret
            return False
        exchange.kept = exchange.kept or Kept()
        return True

    def follow(self, exchange: Exchange) -> None:
        """Queue a sampled exchange that has ended."""
        wanted = exchange.policy.evaluate
        if wanted is None or exchange.answer is None:
            return
        if len(self._waiting) >= MOST_WAITING:
            self._metrics.evaluation(exchange.policy.name, "queue_full")
            return
        self._waiting.append(_Drawn(exchange, wanted))
        self._resume()

    def arrived(self) -> None:
        """Count an arriving request, and cancel the running evaluation. Evaluations pause until
        `end_request`."""
        self._metrics.in_flight += 1
        if self._task is not None:
            self._task.cancel()

    def left(self) -> None:
        self._metrics.in_flight -= 1
        self._resume()

    def _resume(self) -> None:
        if self._task is None and self._waiting and not self._metrics.in_flight and not self._closed:
            self._task = asyncio.ensure_future(self._work())
            self._task.add_done_callback(self._stopped)

    async def close(self) -> None:
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _stopped(self, task: asyncio.Task[None]) -> None:
        self._task = None
        self._resume()

    async def _work(self) -> None:
        while self._waiting:
            drawn = self._waiting.popleft()
            try:
                outcome = await self._evaluate(drawn)
            except asyncio.CancelledError:
                self._put_back(drawn)
                raise
            except Exception:  # a failure must not stop the queue
                log.exception("exchange %s could not be evaluated", drawn.exchange.id)
                outcome = "failed"
            self._metrics.evaluation(drawn.exchange.policy.name, outcome)

    def _put_back(self, drawn: _Drawn) -> None:
        if drawn.begun + 1 < MOST_BEGUN:
            self._waiting.appendleft(drawn._replace(begun=drawn.begun + 1))
        else:
            self._metrics.evaluation(drawn.exchange.policy.name, "given_up")

    async def _evaluate(self, drawn: _Drawn) -> str:
        """Evaluate one answer and return the outcome for the metric."""
        exchange, wanted = drawn.exchange, drawn.wanted
        output = _output(exchange)
        if output is None:
            return "unreadable"
        if not self._hourly.affords(exchange.policy.name, wanted.usd_per_hour):
            return "unaffordable"
        aside = _aside(exchange, wanted)
        try:
            context = _context(exchange)
            asked = _asked(wanted, output, context)
            results = await self._perform(aside, evaluated(aside, asked, output, context=context))
        except Unavailable:  # admission refused the call
            return "failed"
        finally:
            self._hourly.spend(exchange.policy.name, aside.cost_usd)
        found = list(qualities(results))
        for evaluator, p in found:
            self._metrics.quality(policy=exchange.policy.name, route=exchange.route, evaluator=evaluator, p=p)
        return "done" if found else "failed"


def _output(exchange: Exchange) -> Output | None:
    """Return the answer that the client received. None if it is no answer, or was too long to keep."""
    choice = exchange.kept and exchange.kept.choice(exchange.endpoint)
    if not choice:
        return None
    try:
        finish = choice.get("finish_reason")
        return (
            Output(choice["text"], finish=finish)
            if "text" in choice
            else output_of(choice["message"], finish)
        )
    except MISSHAPEN:
        return None


def _context(exchange: Exchange) -> str | None:
    """Return the text of the passages that came with the request, or None."""
    passages = exchange.passages
    return None if passages is None else "\n\n".join(one.titled for one in passages.given)


def _asked(wanted: Evaluate, output: Output, context: str | None) -> list[Evaluator]:
    """Return the evaluators that apply: those that judge text need a non-empty answer, those that need a
    context need passages."""

    def applies(one: Evaluator) -> bool:
        if one.kind == "structure":
            return True
        return bool(output.text.strip()) and (context is not None or not one.needs_context)

    return [one for one in wanted.evaluators if applies(one)]


def _aside(exchange: Exchange, wanted: Evaluate) -> Exchange:
    """Build the exchange that judges an answer, against the request that its writer received. A private
    exchange stays private."""
    ceilings = wanted.ceilings
    if ceilings.calls is None:
        ceilings = ceilings.model_copy(update={"calls": wanted.calls})
    off = dict.fromkeys(("shadow", "evaluate", "affinity", "filter", "guard", "compress"))
    policy = exchange.policy.changed(ceilings=ceilings, **off)
    aside = exchange.shadowed_by(policy, exchange.request._replace(stream=False, stays=0))
    aside.aside, aside.body = NAME, plain(exchange.body)
    aside.raw = orjson.dumps(aside.body)
    return aside
