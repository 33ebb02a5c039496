"""POST /v1/evaluate: answers, one or many, put to evaluators by request."""

import asyncio
from collections.abc import Mapping, Sequence

from fastapi import APIRouter, Request

from gateway.api.disconnect import run_while_connected
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
"""Answers of one request that are judged at a time."""
TRIES = 4
"""Upstreams of a tier that each of an evaluator's calls may be put to in turn."""


def evaluate_route(
    policies: LivePolicies, engine: Engine, evaluations: Evaluations, metrics: Metrics, body_limit: int
) -> APIRouter:
    router = APIRouter()
    upstreams = {upstream.name: upstream for pool in engine.pools.values() for upstream in pool.upstreams}

    async def judged(exchange: Exchange, item: Item, asked: EvaluationRequest) -> list[Result]:
        fragment = evaluate_output(
            exchange, asked.evaluators, item.output, model=asked.model, context=item.context
        )
        return await engine.perform(exchange, run_fragment(fragment))

    async def all_judged(asked: EvaluationRequest) -> Body:
        slots = asyncio.Semaphore(MAX_CONCURRENT)

        async def one(exchange: Exchange, item: Item) -> list[Result]:
            async with slots:
                return await judged(exchange, item, asked)

        exchanges = [_build_exchange(item, asked) for item in asked.items]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(one(exchange, item))
                    for exchange, item in zip(exchanges, asked.items, strict=True)
                ]
        except ExceptionGroup as failed:
            raise failed.exceptions[0]  # noqa: B904  the group says no more than it does
        return _to_body(asked, exchanges, [task.result() for task in tasks], upstreams)

    @router.post("/v1/evaluate", summary="Judges answers: one, or several as `items`")
    async def evaluate(request: Request) -> Body:
        try:
            body = parse_body(await read_body(request.receive, body_limit))
            asked = read_request(body, policies.rubrics, upstreams)
        except ClientGone as gone:
            raise invalid("the client went away") from gone
        except ApiError as error:
            metrics.count_rejected(endpoint=EVALUATE, code=error.code, status=error.status)
            raise
        evaluations.begin_request()
        try:
            return await run_while_connected(request, all_judged(asked))
        except ClientGone as gone:
            raise invalid("the client went away") from gone
        finally:
            evaluations.end_request()

    return router


def _build_exchange(item: Item, asked: EvaluationRequest) -> Exchange:
    body: Body = {"model": asked.model or EVALUATE, "messages": item.messages}
    ceilings = Ceilings(calls=max(1, sum(evaluator.calls for evaluator in asked.evaluators)) * TRIES)
    policy = Policy(
        name=EVALUATE,
        description="Answers that were sent to be judged.",
        router=Direct(tier=asked.tier, fallback=False),
        ceilings=ceilings,
    )
    return build_task_exchange(EVALUATE, "chat", policy, body, tags=asked.tags, private=asked.private)


def _to_body(
    asked: EvaluationRequest,
    exchanges: Sequence[Exchange],
    results: Sequence[list[Result]],
    upstreams: Mapping[str, Upstream],
) -> Body:
    """Raises ApiError where nothing was found at all, for the first reason."""
    flat = [result for one in results for result in one]
    if all("error" in result for result in flat):
        raise _to_error(flat[0])
    rows = [
        {
            "index": index,
            "id": exchange.id,
            "results": [_add_measured_worth(result, upstreams) for result in one],
            "usage": sum_usage([exchange]),
            "cost_usd": exchange.cost_usd,
        }
        for index, (exchange, one) in enumerate(zip(exchanges, results, strict=True))
    ]
    total = {"usage": sum_usage(exchanges), "cost_usd": sum(exchange.cost_usd for exchange in exchanges)}
    return {"object": "smallfirst.evaluation", "data": rows, **total}


def _to_error(result: Result) -> ApiError:
    error = result["error"]
    again = 1.0 if result["status"] in (429, 503) else None
    return ApiError(result["status"], error["code"], error["message"], kind=error["type"], retry_after=again)


def _add_measured_worth(result: Result, upstreams: Mapping[str, Upstream]) -> Result:
    """With what this evaluator was measured to be worth on the model that judged; null where nobody has measured."""
    if "upstream" not in result:
        return result
    source = upstreams[result["upstream"]].source.model_copy(update={"model": result["model"]})
    found = find_result(result["evaluator"], source)
    return result | {"measured": found and found.to_summary()}
