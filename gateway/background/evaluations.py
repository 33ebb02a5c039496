"""Background evaluations: a share of all answers is judged after delivery, whichever tier wrote them.

An evaluation whose judge is the local engine shares that engine with requests. It runs while no request is in flight,
and beside requests for a bounded share of the time. All others run beside requests. One of each kind runs at a time.
"""

import logging
import random
from collections.abc import Awaitable, Callable, Collection
from typing import NamedTuple

import orjson

from gateway.engine.engine import Task
from gateway.engine.runner import run_fragment
from gateway.exchange.captured import CapturedAnswer
from gateway.exchange.exchange import Exchange, without_stream_fields
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.transport.malformed import MISSHAPEN
from policies.schema.evaluate import Evaluate
from routers.judges.evaluators import Structure
from routers.plan import Tier, Unavailable

from .evaluators import EVALUATE, Evaluator, Output, Result, evaluate_output, parse_output, read_scores
from .hourly_budget import HourlyBudget
from .lanes import Lane, YieldingLane

log = logging.getLogger(__name__)

ENGINE_SHARE = 0.1
"""Maximum share of the time in which evaluations run on the local engine beside requests."""


class _Sample(NamedTuple):
    """A sampled exchange with its kept answer."""

    exchange: Exchange
    settings: Evaluate


class Evaluations:
    """Evaluates a share of the finished exchanges, as their policies ask."""

    def __init__(
        self,
        perform: Callable[[Exchange, Task[list[Result]]], Awaitable[list[Result]]],
        metrics: Metrics,
        local_tiers: Collection[Tier] = (),
    ) -> None:
        """`local_tiers` are those in which the local engine judges."""
        self._perform = perform
        self._metrics = metrics
        self._local_tiers = local_tiers
        self._budget = HourlyBudget()
        self._beside = Lane(self._run)
        self._yielding = YieldingLane(self._run, ENGINE_SHARE)

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
        if not self._choose_lane(settings).add(_Sample(exchange, settings)):
            self._metrics.count_evaluation(exchange.policy.name, "queue_full")

    def _choose_lane(self, settings: Evaluate) -> Lane[_Sample]:
        tiers = {evaluator.tier for evaluator in settings.evaluators if not isinstance(evaluator, Structure)}
        return self._beside if tiers.isdisjoint(self._local_tiers) else self._yielding

    def begin_request(self) -> None:
        """Count an arriving request. It may interrupt an evaluation on the local engine."""
        self._metrics.in_flight += 1
        self._yielding.begin_request()

    def end_request(self) -> None:
        self._metrics.in_flight -= 1
        self._yielding.end_request()

    async def close(self) -> None:
        await self._beside.close()
        await self._yielding.close()

    async def _run(self, sample: _Sample) -> None:
        try:
            outcome = await self._evaluate(sample)
        except Exception:  # a failure must not stop the queue
            log.exception("exchange %s could not be evaluated", sample.exchange.id)
            outcome = "failed"
        self._metrics.count_evaluation(sample.exchange.policy.name, outcome)

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
