"""The composition root: builds the ASGI application, and all its parts, from the settings."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from policies.loading.policy_files import PolicyFiles
from policies.loading.yaml_files import ConfigError
from policies.schema.split import AnyPolicy
from routers.plan import Tier

from . import __version__
from .api.compress import compress_route
from .api.evaluation.endpoint import evaluate_route
from .api.generation import RESPONSES, SURFACES, GenerationEndpoint
from .api.info import info_routes
from .api.internal_error import InternalErrors, ResponseTracker, end_response
from .api.listener.browser_access import BrowserAccess, is_preflight, respond_preflight
from .api.listener.paths import ApiPaths
from .api.listener.tracing import trace_request
from .api.request_body import Receive, Scope
from .api.responses.endpoint import ResponsesEndpoint
from .api.responses.history import History
from .api.responses.routes import response_routes
from .api.tokens import token_routes
from .api.writers import Send, build_error_headers, respond_error
from .background.evaluations import Evaluations
from .background.shadows import Shadows
from .catalog.calibrators import Calibrators, ServedCalibrator
from .catalog.live_policies import LivePolicies
from .engine.engine import Engine
from .errors import ApiError, shutting_down
from .exchange.builder import ExchangeBuilder
from .local.factory import build_local_engine
from .local.settings import LOCAL_UPSTREAM_NAME
from .local.supervision.start_progress import StartReport
from .local.supervision.supervisor import Supervisor
from .settings import Settings
from .state.conversations import Conversations
from .state.exchanges import Exchanges
from .state.responses import ResponseStore
from .telemetry.engine_metrics import EngineMetrics
from .telemetry.ledger import Ledger
from .telemetry.metrics import Metrics
from .telemetry.record_writer import Recorder
from .timers import Shutdown
from .upstreams.health import run_probes
from .upstreams.pool import Pool, build_pools
from .upstreams.transport.hosts import is_loopback_host
from .upstreams.upstream import Upstream


class App(FastAPI):
    """The gateway, with those of its parts that its starter needs.

    `hot` holds plain ASGI endpoints by path. They are called before FastAPI's middleware and routing, which would
    cost several times as much as the endpoints themselves.
    """

    policies: LivePolicies
    pools: dict[Tier, Pool]
    exchanges: Exchanges
    hot: Mapping[str, GenerationEndpoint]
    browsers: BrowserAccess
    paths: ApiPaths
    metrics: Metrics
    internal_errors: InternalErrors
    local: Supervisor | None
    shutdown: Shutdown

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Return the coroutine that does the work, without one around it, which would be resumed at every read."""
        if scope["type"] != "http":
            return super().__call__(scope, receive, send)
        try:
            send = self.browsers.admit(scope, send)
        except ApiError as error:
            return self._refuse(error, trace_request(scope, send))
        send = trace_request(scope, send)
        if scope["method"] == "POST" and (endpoint := self.hot.get(scope["path"])) is not None:
            return endpoint(scope, receive, send)
        return self._serve(scope, receive, send)

    async def _refuse(self, error: ApiError, send: Send) -> None:
        self.metrics.count_rejected(endpoint="none", code=error.code, status=error.status)
        await respond_error(send, error)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve all but plain calls of the generation endpoints: preflights, odd paths, FastAPI's routes."""
        if is_preflight(scope):
            await respond_preflight(scope, send)
            return
        scope = self.paths.normalise(scope)
        if (endpoint := self.hot.get(scope["path"])) is not None:
            await endpoint(scope, receive, send)
            return
        response = ResponseTracker(send)
        try:
            await super().__call__(scope, receive, response)
        except asyncio.CancelledError:
            if not self.shutdown.is_due:
                raise
            await end_response(shutting_down(), response)
        except Exception as error:
            # The metric's label is the route's name, since clients could make up any number of paths.
            route = getattr(scope.get("route"), "name", "none")
            await self.internal_errors.conclude(error, route, response)


def create_app(
    settings: Settings,
    more: Iterable[AnyPolicy] = (),
    tell: Callable[[StartReport], None] = lambda report: None,
) -> App:
    """Build the gateway. `more` policies are served beside those of the settings.

    `tell` is called with each report on the local engine's start. Raises ConfigError for a policy or
    model weights that can not be used.
    """
    metrics, exchanges, shutdown = Metrics(), Exchanges(), Shutdown()
    listen = settings.listen
    stack = AsyncExitStack()

    upstreams = [Upstream(upstream) for upstream in settings.upstreams]
    supervisor = None
    if settings.local is not None:
        name = settings.local.engine
        local, supervisor = build_local_engine(
            settings.local, settings.models_folder, lambda: metrics.count_engine_restart(name), tell
        )
        upstreams.insert(0, local)
        stack.push_async_callback(supervisor.stop)
    for upstream in upstreams:
        stack.push_async_callback(upstream.close)
    engines = EngineMetrics(upstreams)
    metrics.registry.register(engines)
    by_tier = build_pools(upstreams)
    stock = ServedCalibrator(Calibrators(settings.calibrators), by_tier.get("slm"))
    files = PolicyFiles(settings.policies.folder, stock)
    policies = LivePolicies(
        files,
        more,
        by_tier,
        lambda ok: metrics.count_policy_load(ok=ok),
        settings.policies.reload,
        expose_models=settings.expose_models,
    )
    recorder = None
    if settings.records.path is not None:
        try:
            recorder = Recorder(settings.records, settings.records.path, metrics.count_dropped_record)
        except OSError as error:
            raise ConfigError(f"records.path: {settings.records.path}: {error.strerror}") from error
        stack.callback(recorder.close)
    ledger = Ledger(metrics, exchanges, recorder)
    stack.callback(ledger.book)
    engine = Engine(by_tier, leave=ledger.add, shutdown=shutdown)
    conversations = Conversations()
    captures = recorder is not None and settings.records.content
    builder = ExchangeBuilder(policies, by_tier, conversations.turns_left, captures=captures)
    shadows = Shadows(engine.run, lambda: policies.catalog.policies)
    stack.push_async_callback(shadows.close)
    evaluations = Evaluations(engine.perform, metrics, _find_local_tiers(upstreams))
    stack.push_async_callback(evaluations.close)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with stack:
            if supervisor is not None:
                supervisor.start()
            await stack.enter_async_context(policies.watch())
            await stack.enter_async_context(run_probes(upstreams))
            yield
            shutdown.is_due = True

    # Its pages of documentation would load scripts from elsewhere into this origin. `ApiPaths` minds slashes.
    app = App(
        title="Smallfirst",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.policies, app.pools, app.exchanges, app.local = policies, by_tier, exchanges, supervisor
    app.shutdown = shutdown
    history = History(ResponseStore(settings.responses))
    routers = [
        info_routes(policies, engine, exchanges, metrics, engines, ledger),
        response_routes(history),
        compress_route(policies, engine, evaluations, metrics, listen.body_limit),
        token_routes(policies, by_tier, listen.body_limit),
        evaluate_route(policies, engine, evaluations, metrics, listen.body_limit),
    ]
    for router in routers:  # `include_router` would build each route anew
        app.router.routes.extend(router.routes)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _leave_to_app)
    app.metrics, app.internal_errors = metrics, InternalErrors(metrics)
    parts: dict[str, Any] = {
        "builder": builder,
        "engine": engine,
        "conversations": conversations,
        "shadows": shadows,
        "evaluations": evaluations,
        "metrics": metrics,
        "listen": listen,
        "shutdown": shutdown,
    }
    app.hot = {path: GenerationEndpoint(surface, **parts) for path, surface in SURFACES.items()} | {
        "/v1/responses": ResponsesEndpoint(history, surface=RESPONSES, **parts)
    }
    app.browsers = BrowserAccess(listen.origins, is_loopback=is_loopback_host(listen.host))
    app.paths = ApiPaths(
        [
            *app.hot,
            *(route.path for router in routers for route in router.routes if isinstance(route, APIRoute)),
        ]
    )
    return app


def _find_local_tiers(upstreams: Iterable[Upstream]) -> set[Tier]:
    """Return the tiers in which the engine that runs here answers."""
    return {upstream.tier for upstream in upstreams if upstream.name == LOCAL_UPSTREAM_NAME}


async def _api_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)  # noqa: S101  the handler is registered for this class
    headers = {name.decode(): value.decode() for name, value in build_error_headers(error)}
    return JSONResponse(error.body(), error.status, headers)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  the handler is registered for this class
    message = f"{request.method} {request.url.path}: {error.detail}"
    if error.status_code == 404:
        message += f"; the base URL of the API is {request.url.scheme}://{request.url.netloc}/v1"
    api_error = ApiError(
        error.status_code, "not_found" if error.status_code == 404 else "http_error", message
    )
    return JSONResponse(api_error.body(), error.status_code, error.headers)


async def _leave_to_app(_: Request, error: Exception) -> JSONResponse:
    """Raise the error again, so that `App` answers it, and not the framework in plain text."""
    raise error
