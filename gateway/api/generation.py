"""POST to the endpoints of `surface.SURFACES`: raw ASGI endpoints, the hot path."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from gateway.background.evaluations import Evaluations
from gateway.background.shadows import Shadows
from gateway.engine.engine import Engine
from gateway.errors import ApiError
from gateway.exchange.builder import ExchangeBuilder
from gateway.exchange.exchange import Exchange
from gateway.telemetry.metrics import Metrics
from gateway.timers import Deadlines

from .request_body import ClientGone, Receive, parse_body, read_body
from .settings import Listen
from .surface import Surface
from .writers import Reply, Send, respond_error

Scope = MutableMapping[str, Any]


class GenerationEndpoint:
    """One endpoint."""

    def __init__(
        self,
        surface: Surface,
        *,
        opening: ExchangeBuilder,
        engine: Engine,
        shadows: Shadows,
        evaluations: Evaluations,
        metrics: Metrics,
        listen: Listen,
    ) -> None:
        self.name = surface.name
        self._surface = surface
        self._opening = opening
        self._engine = engine
        self._shadows = shadows
        self._evaluations = evaluations
        self._metrics = metrics
        self._body_limit = listen.body_limit
        self._heartbeat = listen.heartbeat_after
        self._deadlines = Deadlines()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        surface = self._surface
        try:
            raw = await read_body(receive, self._body_limit)
            asked = parse_body(raw)
            body, raw = surface.read(asked, raw)
            exchange = await self._opening.build(surface, body, raw)
        except ClientGone:
            return
        except ApiError as error:
            self._metrics.count_rejected(endpoint=surface.name, code=error.code, status=error.status)
            await respond_error(send, error)
            return
        drawn = self._evaluations.sample(exchange)
        reply = surface.reply(send, exchange, asked, self._heartbeat, self._deadlines)
        self._evaluations.begin_request()
        try:
            await self._run(exchange, reply, receive)
        finally:
            reply.close()
            self._evaluations.end_request()
        self._opening.over(exchange)
        self._shadows.maybe_start(exchange)
        if drawn:
            self._evaluations.enqueue(exchange)

    async def _run(self, exchange: Exchange, reply: Reply, receive: Receive) -> None:
        """A client that goes away cancels its exchange."""
        leaving = _DisconnectWatch(self._deadlines, reply, receive)
        try:
            await self._engine.run(exchange, reply)
        except asyncio.CancelledError:
            if not leaving.is_gone:
                raise
        finally:
            leaving.stop()


class _DisconnectWatch:
    """Cancels the task it is made in when its client goes away. Most requests are over before a client could
    leave, so the watching begins a little later: a task of its own costs more than the rest of the watch."""

    def __init__(self, deadlines: Deadlines, reply: Reply, receive: Receive) -> None:
        self.is_gone = False
        self._task = asyncio.current_task()
        self._reply = reply
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None
        self._begins = deadlines.schedule(WATCH_AFTER_S, self._start_watching)

    def stop(self) -> None:
        self._begins.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = (
                None  # its error's traceback holds us, and with us the exchange, until a collection
            )

    def _start_watching(self) -> None:
        self._watcher = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._task is not None and not self._reply.finished:
            self.is_gone = True
            self._task.cancel()


WATCH_AFTER_S = 0.03
"""Seconds into a request at which its client's leaving begins to be watched for."""
