"""Background evaluations: a share of all answers is judged after delivery, whichever tier wrote them.

Evaluations never delay an answer. One runs at a time, and only while no request is in flight. When a request
arrives, the evaluation is cancelled and its upstream call closed; it starts again once no request is in
flight.
"""

import asyncio
import contextvars
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import orjson

from gateway.engine.engine import Task
from gateway.engine.runner import run_fragment
from gateway.exchange.captured import CapturedAnswer
from gateway.exchange.exchange import Exchange, without_stream_fields
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.transport.malformed import MISSHAPEN
from policies.schema.evaluate import Evaluate
from routers.plan import Unavailable

from .evaluators import EVALUATE, Evaluator, Output, Result, evaluate_output, parse_output, read_scores
from .hourly_budget import HourlyBudget

log = logging.getLogger(__name__)

MOST_WAITING = 64
"""Maximum number of answers that wait for evaluation. Further samples are dropped."""
MOST_BEGUN = 3
"""Maximum attempts at one evaluation that requests interrupt. Every attempt costs money."""


class _Sample(NamedTuple):
    """A sampled exchange with its kept answer."""

    exchange: Exchange
    settings: Evaluate
    begun: int = 0


class Evaluations:
    """Evaluates a share of the finished exchanges, as their policies ask."""

    def __init__(
        self, perform: Callable[[Exchange, Task[list[Result]]], Awaitable[list[Result]]], metrics: Metrics
    ) -> None:
        self._perform = perform
        self._metrics = metrics
        self._waiting: deque[_Sample] = deque()
        self._task: asyncio.Task[None] | None = None
        self._budget = HourlyBudget()
        self._closed = False

    def sample(self, exchange: Exchange) -> bool:
        """Sample a starting exchange for evaluation. Return whether it is sampled; then its answer is
        kept."""
        settings = exchange.policy.evaluate
        if settings is None or exchange.endpoint == "embeddings" or not exchange.request.judgeable:
            return False
        if random.random() >= settings.share:  # noqa: S311  no secret
            return False
        exchange.captured = exchange.captured or CapturedAnswer()
        return True

    def enqueue(self, exchange: Exchange) -> None:
        """Queue a sampled exchange that has ended."""
        settings = exchange.policy.evaluate
        if settings is None or exchange.answer is None:
            return
        if len(self._waiting) >= MOST_WAITING:
            self._metrics.count_evaluation(exchange.policy.name, "queue_full")
            return
        self._waiting.append(_Sample(exchange, settings))
        self._resume()

    def begin_request(self) -> None:
        """Count an arriving request, and cancel the running evaluation. Evaluations pause until
        `end_request`."""
        self._metrics.in_flight += 1
        if self._task is not None:
            self._task.cancel()

    def end_request(self) -> None:
        self._metrics.in_flight -= 1
        self._resume()

    def _resume(self) -> None:
        if self._task is None and self._waiting and not self._metrics.in_flight and not self._closed:
            # The request at whose end this happens is not the one whose answer is evaluated: no context of its own.
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run_queue(), context=contextvars.Context())
            self._task.add_done_callback(self._on_task_done)

    async def close(self) -> None:
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        self._resume()

    async def _run_queue(self) -> None:
        while self._waiting:
            sample = self._waiting.popleft()
            try:
                outcome = await self._evaluate(sample)
            except asyncio.CancelledError:
                self._requeue(sample)
                raise
            except Exception:  # a failure must not stop the queue
                log.exception("exchange %s could not be evaluated", sample.exchange.id)
                outcome = "failed"
            self._metrics.count_evaluation(sample.exchange.policy.name, outcome)

    def _requeue(self, sample: _Sample) -> None:
        if sample.begun + 1 < MOST_BEGUN:
            self._waiting.appendleft(sample._replace(begun=sample.begun + 1))
        else:
            self._metrics.count_evaluation(sample.exchange.policy.name, "given_up")

    async def _evaluate(self, sample: _Sample) -> str:
        """Evaluate one answer and return the outcome for the metric."""
        exchange, settings = sample.exchange, sample.settings
        output = _read_output(exchange)
        if output is None:
            return "unreadable"
        if not self._budget.can_spend(exchange.policy.name, settings.usd_per_hour):
            return "unaffordable"
        evaluation = _build_evaluation(exchange, settings)
        try:
            context = _read_context(exchange)
            evaluators = _select_evaluators(settings, output, context)
            fragment = evaluate_output(evaluation, evaluators, output, context=context)
            results = await self._perform(evaluation, run_fragment(fragment))
        except Unavailable:  # admission refused the call
            return "failed"
        finally:
            self._budget.spend(exchange.policy.name, evaluation.cost_usd)
        scores = list(read_scores(results))
        for evaluator, p in scores:
            self._metrics.observe_quality(
                policy=exchange.policy.name, route=exchange.route, evaluator=evaluator, p=p
            )
        return "done" if scores else "failed"


def _read_output(exchange: Exchange) -> Output | None:
    """Return the answer that the client received. None if it is no answer, or was too long to keep."""
    choice = exchange.captured and exchange.captured.choice(exchange.endpoint)
    if not choice:
        return None
    try:
        finish = choice.get("finish_reason")
        return (
            Output(choice["text"], finish=finish)
            if "text" in choice
            else parse_output(choice["message"], finish)
        )
    except MISSHAPEN:
        return None


def _read_context(exchange: Exchange) -> str | None:
    """Return the text of the passages that came with the request, or None."""
    passages = exchange.passages
    return None if passages is None else "\n\n".join(passage.titled for passage in passages.retrieved)


def _select_evaluators(settings: Evaluate, output: Output, context: str | None) -> list[Evaluator]:
    """Return the evaluators that apply: those that judge text need a non-empty answer, those that need a
    context need passages."""

    def is_applicable(evaluator: Evaluator) -> bool:
        if evaluator.kind == "structure":
            return True
        return bool(output.text.strip()) and (context is not None or not evaluator.needs_context)

    return [evaluator for evaluator in settings.evaluators if is_applicable(evaluator)]


def _build_evaluation(exchange: Exchange, settings: Evaluate) -> Exchange:
    """Build the exchange that judges an answer, against the request that its writer received. A private
    exchange stays private."""
    ceilings = settings.ceilings
    if ceilings.calls is None:
        ceilings = ceilings.model_copy(update={"calls": settings.max_calls})
    without_extras = dict.fromkeys(("shadow", "evaluate", "affinity", "filter", "guard", "compress"))
    policy = exchange.policy.replace(ceilings=ceilings, **without_extras)
    evaluation = exchange.create_shadow(policy, exchange.request._replace(stream=False, stays=0))
    evaluation.aside, evaluation.body = EVALUATE, without_stream_fields(exchange.body)
    evaluation.raw = orjson.dumps(evaluation.body)
    return evaluation
