"""The composition root: builds the ASGI application, and all its parts, from the settings."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from policies.loading.policy_files import PolicyFiles
from policies.schema.split import AnyPolicy
from routers.plan import Tier

from . import __version__
from .api.compress import compress_route
from .api.evaluation.endpoint import evaluate_route
from .api.generation import SURFACES, GenerationEndpoint, Scope
from .api.info import info_routes
from .api.internal_error import InternalErrors, ResponseTracker
from .api.request_body import Receive
from .api.tokens import token_routes
from .api.writers import Send
from .background.evaluations import Evaluations
from .background.shadows import Shadows
from .catalog.live_policies import LivePolicies
from .engine.engine import Engine
from .errors import ApiError
from .exchange.builder import ExchangeBuilder
from .local.factory import build_local_engine
from .local.supervisor import Supervisor
from .settings import Settings
from .state.conversations import Conversations
from .state.exchanges import Exchanges
from .telemetry.engine_metrics import EngineMetrics
from .telemetry.ledger import Ledger
from .telemetry.metrics import Metrics
from .telemetry.record_writer import Recorder
from .upstreams.health import run_probes
from .upstreams.pool import Pool, build_pools
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
    internal_errors: InternalErrors
    local: Supervisor | None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Return the coroutine that does the work, without one around it, which would be resumed at every read."""
        endpoint = self.hot.get(scope["path"]) if scope["type"] == "http" else None
        return self._serve(scope, receive, send) if endpoint is None else endpoint(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve all but the generation endpoints: FastAPI's routes, and the server's lifespan events."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        response = ResponseTracker(send)
        try:
            await super().__call__(scope, receive, response)
        except Exception as error:
            # The metric's label is the route's name, since clients could make up any number of paths.
            endpoint = getattr(scope.get("route"), "name", "none")
            await self.internal_errors.conclude(error, endpoint, response)


def create_app(
    settings: Settings, more: Iterable[AnyPolicy] = (), tell: Callable[[str], None] = lambda line: None
) -> App:
    """Build the gateway. `more` policies are served beside those of the settings.

    `tell` is called with each line about the progress of the local engine's start. Raises ConfigError for a policy or
    model weights that can not be used.
    """
    metrics, exchanges = Metrics(), Exchanges()
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
    files = PolicyFiles(settings.policies.folder)
    by_tier = build_pools(upstreams)
    policies = LivePolicies(
        files, more, by_tier, lambda ok: metrics.count_policy_load(ok=ok), settings.policies.reload
    )
    recorder = None
    if settings.records.path is not None:
        recorder = Recorder(settings.records, settings.records.path, metrics.count_dropped_record)
        stack.callback(recorder.close)
    ledger = Ledger(metrics, exchanges, recorder)
    stack.callback(ledger.book)
    engine = Engine(by_tier, leave=ledger.add)
    conversations = Conversations()
    captures = recorder is not None and settings.records.content
    builder = ExchangeBuilder(policies, by_tier, conversations.turns_left, captures=captures)
    shadows = Shadows(engine.run, lambda: policies.catalog.policies)
    stack.push_async_callback(shadows.close)
    evaluations = Evaluations(engine.perform, metrics)
    stack.push_async_callback(evaluations.close)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with stack:
            if supervisor is not None:
                supervisor.start()
            await stack.enter_async_context(policies.watch())
            await stack.enter_async_context(run_probes(upstreams))
            yield

    app = App(title="Smallfirst", version=__version__, lifespan=lifespan)
    app.policies, app.pools, app.exchanges, app.local = policies, by_tier, exchanges, supervisor
    app.include_router(info_routes(policies, engine, exchanges, metrics, engines, ledger))
    app.include_router(compress_route(policies, engine, evaluations, metrics, settings.listen.body_limit))
    app.include_router(token_routes(policies, by_tier, settings.listen.body_limit))
    app.include_router(evaluate_route(policies, engine, evaluations, metrics, settings.listen.body_limit))
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _leave_to_app)
    app.internal_errors = InternalErrors(metrics)
    app.hot = {
        path: GenerationEndpoint(
            surface,
            builder=builder,
            engine=engine,
            conversations=conversations,
            shadows=shadows,
            evaluations=evaluations,
            metrics=metrics,
            listen=settings.listen,
        )
        for path, surface in SURFACES.items()
    }
    return app


async def _api_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)  # noqa: S101  the handler is registered for this class
    return JSONResponse(error.body(), error.status)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  the handler is registered for this class
    message = f"{request.method} {request.url.path}: {error.detail}"
    api_error = ApiError(
        error.status_code, "not_found" if error.status_code == 404 else "http_error", message
    )
    return JSONResponse(api_error.body(), error.status_code, error.headers)


async def _leave_to_app(_: Request, error: Exception) -> JSONResponse:
    """Raise the error again, so that `App` answers it, and not the framework in plain text."""
    raise error
