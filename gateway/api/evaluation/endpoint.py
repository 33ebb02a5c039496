"""POST /v1/evaluate: answers, one or many, put to evaluators by request."""

import asyncio
from collections.abc import Mapping, Sequence

import orjson
from fastapi import APIRouter, Request

from gateway.api.disconnect import while_there
from gateway.api.request_body import ClientGone, parse, read_body
from gateway.background.evaluations import Evaluations
from gateway.background.evaluators import NAME, Result, evaluated, usage_of
from gateway.catalog.live import LivePolicies
from gateway.engine.engine import Engine
from gateway.errors import ApiError, invalid
from gateway.exchange.exchange import Exchange
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.upstream import Upstream
from gateway.wire.shapes import Body
from policies.loading.evaluator_results import measured
from policies.schema.ceilings import Ceilings
from policies.schema.policy import Policy
from routers import router
from routers.strategies.direct import Direct

from .request import Asked, Item, read

AT_ONCE = 4
"""Answers of one request that are judged at a time."""
TRIES = 4
"""Upstreams of a tier that each of an evaluator's calls may be put to in turn."""


def evaluate_route(
    policies: LivePolicies, engine: Engine, evaluations: Evaluations, metrics: Metrics, body_limit: int
) -> APIRouter:
    router = APIRouter()
    upstreams = {upstream.name: upstream for pool in engine.pools.values() for upstream in pool.upstreams}

    async def judged(exchange: Exchange, item: Item, asked: Asked) -> list[Result]:
        fragment = evaluated(exchange, asked.evaluators, item.output, model=asked.model, context=item.context)
        return await engine.perform(exchange, fragment)

    async def all_judged(asked: Asked) -> Body:
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(exchange: Exchange, item: Item) -> list[Result]:
            async with slots:
                return await judged(exchange, item, asked)

        exchanges = [_exchange(item, asked) for item in asked.items]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(one(exchange, item))
                    for exchange, item in zip(exchanges, asked.items, strict=True)
                ]
        except ExceptionGroup as failed:
            raise failed.exceptions[0]  # noqa: B904  the group says no more than it does
        return _told(asked, exchanges, [task.result() for task in tasks], upstreams)

    @router.post("/v1/evaluate", summary="Judges answers: one, or several as `items`")
    async def evaluate(request: Request) -> Body:
        try:
            body = parse(await read_body(request.receive, body_limit))
            asked = read(body, policies.rubrics, upstreams)
        except ClientGone as gone:
            raise invalid("the client went away") from gone
        except ApiError as error:
            metrics.rejected(endpoint=NAME, code=error.code, status=error.status)
            raise
        evaluations.arrived()
        try:
            return await while_there(request, all_judged(asked))
        except ClientGone as gone:
            raise invalid("the client went away") from gone
        finally:
            evaluations.left()

    return router


def _exchange(item: Item, asked: Asked) -> Exchange:
    body: Body = {"model": asked.model or NAME, "messages": item.messages}
    ceilings = Ceilings(calls=max(1, sum(evaluator.calls for evaluator in asked.evaluators)) * TRIES)
    policy = Policy(
        name=NAME,
        description="Answers that were sent to be judged.",
        router=Direct(tier=asked.tier, fallback=False),
        ceilings=ceilings,
    )
    return Exchange(
        surface=NAME,
        endpoint="chat",
        policy=policy,
        body=body,
        raw=orjson.dumps(body),
        request=router.Request(),
        alone_price=None,
        tags=asked.tags,
        private=asked.private,
        aside=NAME,
    )


def _told(
    asked: Asked,
    exchanges: Sequence[Exchange],
    found: Sequence[list[Result]],
    upstreams: Mapping[str, Upstream],
) -> Body:
    """Raises ApiError where nothing was found at all, for the first reason."""
    results = [result for one in found for result in one]
    if all("error" in result for result in results):
        raise _failed(results[0])
    rows = [
        {
            "index": index,
            "id": exchange.id,
            "results": [_with_worth(result, upstreams) for result in one],
            "usage": usage_of([exchange]),
            "cost_usd": exchange.cost_usd,
        }
        for index, (exchange, one) in enumerate(zip(exchanges, found, strict=True))
    ]
    total = {"usage": usage_of(exchanges), "cost_usd": sum(exchange.cost_usd for exchange in exchanges)}
    return {"object": "smallfirst.evaluation", "data": rows, **total}


def _failed(result: Result) -> ApiError:
    error = result["error"]
    again = 1.0 if result["status"] in (429, 503) else None
    return ApiError(result["status"], error["code"], error["message"], kind=error["type"], retry_after=again)


def _with_worth(result: Result, upstreams: Mapping[str, Upstream]) -> Result:
    """With what this evaluator was measured to be worth on the model that judged; null where nobody has measured."""
    if "upstream" not in result:
        return result
    source = upstreams[result["upstream"]].source.model_copy(update={"model": result["model"]})
    found = measured(result["evaluator"], source)
    return result | {"measured": found and found.told()}
