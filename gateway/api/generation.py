"""Serves the generation endpoints: chat, completions, embeddings; and what /v1/responses shares with them."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import orjson

from gateway.background.evaluations import Evaluations
from gateway.background.shadows import Shadows
from gateway.engine.engine import Engine
from gateway.errors import ApiError, internal_error, shutting_down
from gateway.exchange.builder import ExchangeBuilder
from gateway.exchange.exchange import Exchange
from gateway.state.conversations import Conversations
from gateway.telemetry.metrics import Metrics
from gateway.timers import Deadlines, Shutdown
from gateway.wire.body_types import Body, Endpoint
from gateway.wire.validation import check_chat, check_completions, check_embeddings

from .disconnect import DisconnectWatch
from .request_body import ClientGone, Receive, Scope, parse_request, read_body
from .settings import Listen
from .writers import PlainReply, Reply, Send, StreamReply, respond_error

log = logging.getLogger(__name__)


class Surface(NamedTuple):
    """What an endpoint's requests mean to the engine.

    `name` is for metrics and records, `endpoint` the one of upstreams that answers. `check` raises ApiError for a body
    that the gateway can not act on.
    """

    name: str
    endpoint: Endpoint
    check: Callable[[Body], None]


SURFACES = {
    "/v1/chat/completions": Surface("chat", "chat", check_chat),
    "/v1/completions": Surface("completions", "completions", check_completions),
    "/v1/embeddings": Surface("embeddings", "embeddings", check_embeddings),
}
"""The generation endpoints that answer as upstreams do, by path."""

RESPONSES = Surface("responses", "chat", check_chat)
"""The endpoint that translates its requests to chat's."""


class GenerationEndpoint:
    """One generation endpoint: a raw ASGI application, the hot path."""

    def __init__(
        self,
        surface: Surface,
        *,
        builder: ExchangeBuilder,
        engine: Engine,
        conversations: Conversations,
        shadows: Shadows,
        evaluations: Evaluations,
        metrics: Metrics,
        listen: Listen,
        shutdown: Shutdown,
    ) -> None:
        self._surface = surface
        self._builder = builder
        self._engine = engine
        self._conversations = conversations
        self._shadows = shadows
        self._evaluations = evaluations
        self._metrics = metrics
        self._body_limit = listen.body_limit
        self._heartbeat = listen.heartbeat_after
        self._deadlines = Deadlines()
        self._shutdown = shutdown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await _refuse_method(scope, send)
            return
        reply: Reply | None = None
        try:
            body, raw = parse_request(await read_body(scope, receive, self._body_limit))
            if "azure_deployment" in scope:
                body["model"] = scope["azure_deployment"]
                raw = orjson.dumps(body)
            exchange, reply = await self._open(body, raw, send)
            is_sampled = exchange.policy.evaluate is not None and self._evaluations.sample(exchange)
            await self._answer(exchange, reply, receive)
            self._follow_up(exchange, is_sampled)
        except ClientGone:
            return
        except asyncio.CancelledError:
            if reply is not None or not self._shutdown.is_due:
                raise
            await self._refuse(shutting_down(), send)
        except ApiError as error:
            await self._refuse(error, send)
        except Exception as error:
            await self._fail(error, send, reply)

    async def _open(self, body: Body, raw: bytes, send: Send) -> tuple[Exchange, Reply]:
        """Return the exchange of a request, and the reply that writes its answer. Raises ApiError."""
        self._surface.check(body)
        exchange = await self._build_exchange(body, raw)
        if exchange.request.stream:
            return exchange, StreamReply(send, exchange, self._heartbeat, self._deadlines)
        return exchange, PlainReply(send, exchange)

    def _build_exchange(self, body: Body, raw: bytes) -> Coroutine[Any, Any, Exchange]:
        return self._builder.build(self._surface.name, self._surface.endpoint, body, raw)

    async def _answer(self, exchange: Exchange, reply: Reply, receive: Receive) -> None:
        """Answer the exchange. A client that leaves cancels it."""
        self._evaluations.begin_request()
        watch = DisconnectWatch(self._deadlines, reply, receive)
        try:
            await self._engine.run(exchange, reply)
        except asyncio.CancelledError:
            if not watch.is_gone:
                raise
        finally:
            watch.stop()
            reply.close()
            self._evaluations.end_request()

    def _follow_up(self, exchange: Exchange, is_sampled: bool) -> None:
        """Do what is due once an exchange is over: affinity, a shadow, an evaluation."""
        if exchange.policy.affinity is not None:
            self._conversations.note(exchange)
        if exchange.policy.shadow is not None:
            self._shadows.maybe_start(exchange)
        if is_sampled:
            self._evaluations.enqueue(exchange)

    async def _refuse(self, error: ApiError, send: Send) -> None:
        self._metrics.count_rejected(endpoint=self._surface.name, code=error.code, status=error.status)
        await respond_error(send, error)

    async def _fail(self, error: Exception, send: Send, reply: Reply | None) -> None:
        """End a request that failed unexpectedly. One whose reply has ended is counted already."""
        log.error("a request to %s failed", self._surface.name, exc_info=error)
        if reply is None:
            await self._refuse(internal_error(), send)
        elif not reply.finished:
            failure = internal_error()
            self._metrics.count_rejected(
                endpoint=self._surface.name, code=failure.code, status=failure.status
            )
            await reply.fail(failure)


async def _refuse_method(scope: Scope, send: Send) -> None:
    message = f"{scope['path']} takes POST, not {scope['method']}"
    await respond_error(send, ApiError(405, "method_not_allowed", message), [(b"allow", b"POST")])
