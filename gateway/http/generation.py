"""POST /v1/chat/completions, /v1/completions and /v1/embeddings: raw ASGI endpoints, the hot path."""

import asyncio
from collections.abc import Callable, Mapping, MutableMapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.catalogue import Catalogue
from gateway.deadlines import Deadlines
from gateway.engine import Engine
from gateway.exchange import Exchange
from gateway.prompt import measured
from gateway.settings import Listen
from gateway.state.policies import LivePolicies
from gateway.telemetry.metrics import Metrics
from gateway.wire import Body, Endpoint
from policies.overrides import OverrideError, OverrideNotAllowed, overridden
from policies.schema import Policy
from routers.direct import Direct
from routers.plan import NO_FEATURES, Request, Tier
from routers.structure import Expected

from .errors import ApiError, invalid
from .intake import ClientGone, Receive, judgeable, parse, read_body
from .reply import PlainReply, Reply, Send, StreamReply, respond_error

Scope = MutableMapping[str, Any]


Tag = Annotated[str, Field(max_length=256)]


class OwnField(BaseModel):
    """The body's `smallfirst` field, read and taken out before any upstream sees the body."""

    model_config = ConfigDict(extra="forbid", strict=True)

    policy: str | None = None
    override: dict[str, Any] | None = None
    private: bool = False
    key: Annotated[str, Field(max_length=256)] | None = None
    tags: Annotated[dict[Tag, Tag], Field(max_length=16)] = {}


class Generation:
    """One endpoint. `check` raises ApiError for a body that we can't act on."""

    def __init__(
        self,
        endpoint: Endpoint,
        check: Callable[[Body], None],
        *,
        policies: LivePolicies,
        engine: Engine,
        metrics: Metrics,
        listen: Listen,
    ) -> None:
        self._endpoint = endpoint
        self._check = check
        self._policies = policies
        self._engine = engine
        self._metrics = metrics
        self._body_limit = listen.body_limit
        self._heartbeat = listen.heartbeat_after
        self._deadlines = Deadlines()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            raw = await read_body(receive, self._body_limit)
            exchange = self._exchange(raw)
        except ClientGone:
            return
        except ApiError as error:
            self._metrics.rejected(endpoint=self._endpoint, code=error.code, status=error.status)
            await respond_error(send, error)
            return
        reply: Reply = PlainReply(send, exchange)
        if exchange.request.stream:
            reply = StreamReply(send, exchange, self._heartbeat, self._deadlines)
        self._metrics.in_flight += 1
        try:
            await self._run(exchange, reply, receive)
        finally:
            reply.close()
            self._metrics.in_flight -= 1

    async def _run(self, exchange: Exchange, reply: Reply, receive: Receive) -> None:
        """A client that goes away cancels its exchange."""
        leaving = _Leaving(self._deadlines, reply, receive)
        try:
            await self._engine.run(exchange, reply)
        except asyncio.CancelledError:
            if not leaving.gone:
                raise
        finally:
            leaving.end()

    def _exchange(self, raw: bytes) -> Exchange:
        body = parse(raw)
        self._check(body)
        own = own_field(body)
        policy = policy_of(body, own, self._policies.catalogue)
        if self._endpoint == "embeddings":
            policy = self._embedding_policy(policy)
        upstreams = self._engine.upstreams
        llm = upstreams.get("llm")
        expected = Expected.of(body)
        return Exchange(
            endpoint=self._endpoint,
            policy=policy,
            body=body,
            raw=raw,
            request=Request(
                stream=bool(body.get("stream")),
                judgeable=judgeable(body),
                whole=expected.whole,
                tiers=available(upstreams),
                features=measured(body, self._endpoint) if policy.router.reads_features else NO_FEATURES,
            ),
            expected=expected,
            alone_price=llm.price if llm is not None and llm.priced else None,
            tags=own.tags,
            private=own.private or policy.private,
        )

    def _embedding_policy(self, policy: Policy) -> Policy:
        """Embeddings of two models can't stand in for one another: one tier, no fallback."""
        router = policy.router
        tiers: tuple[Tier, ...] = (router.tier,) if isinstance(router, Direct) else ("slm", "llm")
        for tier in tiers:
            upstream = self._engine.upstreams.get(tier)
            if upstream is not None and upstream.embeddings:
                return policy.changed(router=Direct(tier=tier, fallback=False), overrides=())
        raise invalid(f"no upstream of {policy.name} offers embeddings", "model", "not_supported")


def available(upstreams: Mapping[Tier, Any]) -> frozenset[Tier]:
    """Tiers that may be asked; a local engine that is restarting may be waited for, and counts."""
    return _TIERS["slm" in upstreams, "llm" in upstreams and upstreams["llm"].up]


_TIERS: dict[tuple[bool, bool], frozenset[Tier]] = {
    (True, True): frozenset(("slm", "llm")),
    (True, False): frozenset(("slm",)),
    (False, True): frozenset(("llm",)),
    (False, False): frozenset(),
}
_NO_OWN_FIELD = OwnField()


def own_field(body: Body) -> OwnField:
    if body.get("smallfirst") is None:
        return _NO_OWN_FIELD
    try:
        return OwnField.model_validate(body["smallfirst"])
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(["smallfirst", *map(str, detail["loc"])])
        what = detail["msg"] if detail["loc"] else "must be an object"
        raise invalid(f"{where}: {what}; known keys: {', '.join(OwnField.model_fields)}", where) from error


def policy_of(body: Body, own: OwnField, catalogue: Catalogue) -> Policy:
    """The policy that a request names, with what it overrides. Raises ApiError."""
    policy = catalogue.resolve(own.policy or body["model"], "smallfirst.policy" if own.policy else "model")
    try:
        return overridden(policy, own.override or {})
    except OverrideNotAllowed as error:
        where = f"smallfirst.{error.at}"
        raise ApiError(403, "override_not_allowed", f"smallfirst.{error}", param=where) from error
    except OverrideError as error:
        raise invalid(f"smallfirst.{error}", f"smallfirst.{error.at}") from error


class _Leaving:
    """Cancels the task it is made in when its client goes away. Most requests are over before a client could
    leave, so the watching begins a little later: a task of its own costs more than the rest of the watch."""

    def __init__(self, deadlines: Deadlines, reply: Reply, receive: Receive) -> None:
        self.gone = False
        self._task = asyncio.current_task()
        self._reply = reply
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None
        self._begins = deadlines.after(WATCH_AFTER, self._begin)

    def end(self) -> None:
        self._begins.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _begin(self) -> None:
        self._watcher = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._task is not None and not self._reply.finished:
            self.gone = True
            self._task.cancel()


WATCH_AFTER = 0.03
"""Seconds into a request at which its client's leaving begins to be watched for."""
