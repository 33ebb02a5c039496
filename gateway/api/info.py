"""The informational endpoints: models, exchanges, health, metrics."""

import time
from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from gateway.api.listener.json_router import JsonRouter
from gateway.catalog.catalog import Catalog
from gateway.catalog.live_policies import LivePolicies
from gateway.engine.engine import Engine
from gateway.errors import ApiError
from gateway.state.exchanges import Exchanges
from gateway.telemetry.engine_metrics import EngineMetrics
from gateway.telemetry.ledger import Ledger
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.upstream import Upstream


def info_routes(
    policies: LivePolicies,
    engine: Engine,
    exchanges: Exchanges,
    metrics: Metrics,
    engines: EngineMetrics,
    ledger: Ledger,
) -> JsonRouter:
    router = JsonRouter()
    created = int(time.time())
    upstreams = [upstream for pool in engine.pools.values() for upstream in pool.upstreams]
    owners = {model: upstream for upstream in reversed(upstreams) for model in upstream.models}

    def describe(name: str) -> dict[str, Any]:
        return _describe_model(name, policies.catalog, owners) | {"created": created}

    @router.get("/v1/models", summary="The policies and models that a request may name")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [describe(name) for name in policies.catalog.names()]}

    @router.get("/v1/models/{name:path}", summary="One of them")
    async def model(name: str) -> dict[str, Any]:
        return describe(policies.catalog.resolve(name).name)

    @router.get("/v1/exchanges/{exchange_id}", summary="What one exchange took and cost")
    async def exchange(exchange_id: str) -> dict[str, Any]:
        ledger.book()
        figures = exchanges.get(exchange_id)
        if figures is None:
            raise ApiError(404, "exchange_not_found", f"no exchange {exchange_id!r} among the latest here")
        return figures

    @router.get("/health/live", summary="The process runs")
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/health", summary="The same as /health/ready, where clients of vLLM and llama.cpp look")
    @router.get("/health/ready", summary="At least one model can answer")
    async def ready() -> JSONResponse:
        states = {upstream.name: {"tier": upstream.tier, "up": upstream.is_up} for upstream in upstreams}
        up = any(pool.is_up for pool in engine.pools.values())
        return JSONResponse(
            {"status": "ok" if up else "unavailable", "upstreams": states}, 200 if up else 503
        )

    @router.get("/metrics", summary="Prometheus metrics")
    async def exposition(request: Request) -> Response:
        ledger.book()
        await engines.refresh()
        for upstream in upstreams:
            metrics.set_upstream_up(upstream.name, upstream.tier, upstream.is_up)
        body, content_type = metrics.render(request.headers.get("accept"))
        return Response(body, headers={"content-type": content_type})

    return router


def _describe_model(name: str, catalogue: Catalog, owners: Mapping[str, Upstream]) -> dict[str, Any]:
    """Return the entry of /v1/models for a name. An adapter has a `parent`, as in vLLM."""
    entry = {"id": name, "object": "model"}
    if name in catalogue.policies or name in catalogue.splits:
        return entry | {"owned_by": "smallfirst"}
    owner = owners[name]
    return entry | {"owned_by": owner.name} | ({} if name == owner.model else {"parent": owner.model})
