"""POST /v1/evaluate: judges one or several answers with the evaluators that the request names."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fastapi import Request

from gateway.api.disconnect import run_while_connected
from gateway.api.listener.json_router import JsonRouter
from gateway.api.request_body import ClientGone, parse_body, read_body
from gateway.background.evaluations import Evaluations
from gateway.background.evaluators import EVALUATE, Result, evaluate_output, sum_usage
from gateway.catalog.live_policies import LivePolicies
from gateway.engine.engine import Engine
from gateway.engine.runner import run_fragment
from gateway.errors import ApiError, invalid
from gateway.exchange.builder import build_task_exchange
from gateway.exchange.exchange import Exchange
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.upstream import Upstream
from gateway.wire.body_types import Body
from policies.loading.evaluator_results import find_result
from policies.schema.ceilings import Ceilings
from policies.schema.policy import Policy
from routers.strategies.direct import Direct

from .request import EvaluationRequest, Item, read_request

MAX_CONCURRENT = 4
"""Maximum number of answers of one request that are judged at the same time."""
TRIES = 4
"""Maximum number of a tier's upstreams that each call of an evaluator may try in turn."""

MIN_SECONDS = 0.001
"""Seconds that an answer gets whose request has used up its ceiling: enough to be refused."""


class Judged(NamedTuple):
    """An answer's exchange, and what its evaluators found."""

    exchange: Exchange
    results: list[Result]


def evaluate_route(
    policies: LivePolicies, engine: Engine, evaluations: Evaluations, metrics: Metrics, body_limit: int
) -> JsonRouter:
    router = JsonRouter()
    upstreams = {upstream.name: upstream for pool in engine.pools.values() for upstream in pool.upstreams}

    async def judge_item(exchange: Exchange, item: Item, evaluation: EvaluationRequest) -> list[Result]:
        fragment = evaluate_output(
            exchange, evaluation.evaluators, item.output, model=evaluation.model, context=item.context
        )
        return await engine.perform(exchange, run_fragment(fragment))

    async def judge_items(evaluation: EvaluationRequest) -> Body:
        slots, began = asyncio.Semaphore(MAX_CONCURRENT), time.monotonic()

        async def judge_in_slot(item: Item) -> Judged:
            async with slots:
                exchange = _build_exchange(item, evaluation, time.monotonic() - began)
                return Judged(exchange, await judge_item(exchange, item, evaluation))

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(judge_in_slot(item)) for item in evaluation.items]
        except ExceptionGroup as failed:
            raise failed.exceptions[0]  # noqa: B904  the group adds nothing to its first exception
        return _to_body([task.result() for task in tasks], upstreams)

    @router.post("/v1/evaluate", summary="Judges answers: one, or several as `items`")
    async def evaluate(request: Request) -> Body:
        try:
            body = parse_body(await read_body(request.scope, request.receive, body_limit))
            evaluation = read_request(body, policies.rubrics, policies.catalog, upstreams)
        except ClientGone as gone:
            raise invalid("the client went away") from gone
        except ApiError as error:
            metrics.count_rejected(endpoint=EVALUATE, code=error.code, status=error.status)
            raise
        evaluations.begin_request()
        try:
            return await run_while_connected(request, judge_items(evaluation))
        except ClientGone as gone:
            raise invalid("the client went away") from gone
        finally:
            evaluations.end_request()

    return router


def _build_exchange(item: Item, evaluation: EvaluationRequest, elapsed_s: float) -> Exchange:
    body: Body = {"model": evaluation.model or EVALUATE, "messages": item.messages}
    ceilings = _share_ceilings(evaluation, elapsed_s)
    policy = Policy(
        name=EVALUATE,
        description="Answers that were sent to be judged.",
        router=Direct(tier=evaluation.tier, fallback=False),
        ceilings=ceilings,
    )
    return build_task_exchange(
        EVALUATE, "chat", policy, body, tags=evaluation.tags, private=evaluation.private
    )


def _share_ceilings(evaluation: EvaluationRequest, elapsed_s: float) -> Ceilings:
    """Return an answer's share of the request's ceilings, `elapsed_s` after the request began."""
    limits, answers = evaluation.ceilings, len(evaluation.items)
    return Ceilings(
        calls=max(1, evaluation.calls_per_item) * TRIES,
        tokens=None if limits.tokens is None else max(1, limits.tokens // answers),
        usd=None if limits.usd is None else limits.usd / answers,
        seconds=None if limits.seconds is None else max(MIN_SECONDS, limits.seconds - elapsed_s),
    )


def _to_body(judged: Sequence[Judged], upstreams: Mapping[str, Upstream]) -> Body:
    """Return the response's body. Raises ApiError, with the first result's error, if every evaluator failed."""
    flat = [result for _, results in judged for result in results]
    if all("error" in result for result in flat):
        raise _to_error(flat[0])
    rows = [
        {
            "index": index,
            "id": exchange.id,
            "results": [_add_measured_worth(result, upstreams) for result in results],
            "usage": sum_usage([exchange]),
            "cost_usd": exchange.cost_usd,
        }
        for index, (exchange, results) in enumerate(judged)
    ]
    exchanges = [exchange for exchange, _ in judged]
    total = {"usage": sum_usage(exchanges), "cost_usd": sum(exchange.cost_usd for exchange in exchanges)}
    return {"object": "smallfirst.evaluation", "data": rows, **total}


def _to_error(result: Result) -> ApiError:
    error = result["error"]
    retry_after = 1.0 if result["status"] in (429, 503) else None
    return ApiError(
        result["status"], error["code"], error["message"], kind=error["type"], retry_after=retry_after
    )


def _add_measured_worth(result: Result, upstreams: Mapping[str, Upstream]) -> Result:
    """Return the result with `measured`: the evaluator's measured quality on the model that judged, else null."""
    if "upstream" not in result:
        return result
    source = upstreams[result["upstream"]].source.model_copy(update={"model": result["model"]})
    measured = find_result(result["evaluator"], source)
    return result | {"measured": measured and measured.to_summary()}
