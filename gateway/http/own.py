"""Our own endpoints, as ordinary FastAPI routes: models, exchanges, health, metrics."""

import time
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from gateway.engine import Engine
from gateway.state.exchanges import Exchanges
from gateway.state.policies import LivePolicies
from gateway.telemetry.engines import EngineMetrics
from gateway.telemetry.ledger import Ledger
from gateway.telemetry.metrics import Metrics

from .errors import ApiError


def own_routes(
    policies: LivePolicies,
    engine: Engine,
    exchanges: Exchanges,
    metrics: Metrics,
    engines: EngineMetrics,
    ledger: Ledger,
) -> APIRouter:
    router = APIRouter()
    created = int(time.time())
    upstreams = [upstream for pool in engine.pools.values() for upstream in pool.upstreams]
    owners = {upstream.model: upstream.name for upstream in reversed(upstreams)}

    def described(name: str) -> dict[str, Any]:
        owner = (
            "smallfirst"
            if name in {**policies.catalogue.policies, **policies.catalogue.splits}
            else owners[name]
        )
        return {"id": name, "object": "model", "created": created, "owned_by": owner}

    @router.get("/v1/models", summary="The policies and models that a request may name")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [described(name) for name in policies.catalogue.names()]}

    @router.get("/v1/models/{name:path}", summary="One of them")
    async def model(name: str) -> dict[str, Any]:
        return described(policies.catalogue.resolve(name).name)

    @router.get("/v1/exchanges/{exchange_id}", summary="What one exchange took and cost")
    async def exchange(exchange_id: str) -> dict[str, Any]:
        ledger.book()
        found = exchanges.get(exchange_id)
        if found is None:
            raise ApiError(404, "exchange_not_found", f"no exchange {exchange_id!r} among the latest here")
        return found

    @router.get("/health/live", summary="The process runs")
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/health/ready", summary="At least one model can answer")
    async def ready() -> JSONResponse:
        states = {upstream.name: {"tier": upstream.tier, "up": upstream.up} for upstream in upstreams}
        up = any(pool.up for pool in engine.pools.values())
        return JSONResponse(
            {"status": "ok" if up else "unavailable", "upstreams": states}, 200 if up else 503
        )

    @router.get("/metrics", summary="Prometheus metrics")
    async def exposition(request: Request) -> Response:
        ledger.book()
        await engines.read()
        for upstream in upstreams:
            metrics.upstream_up(upstream.name, upstream.tier, upstream.up)
        body, content_type = metrics.render(request.headers.get("accept"))
        return Response(body, headers={"content-type": content_type})

    return router
