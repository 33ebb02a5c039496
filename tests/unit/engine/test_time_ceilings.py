"""A ceiling on seconds ends an exchange the same way whatever it waits for, and a client that leaves is no ceiling."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal

import orjson
import pytest
from support.gateways import Gateway, StartGateway, settings_of, upstream
from support.scripted_server import Scripted, scripted
from support.strategy_requests import policy, text_of
from support.toy_vllm import Drafter, ToyVllm
from support.waiting import soon, until

from gateway.api.writers import Send, StreamReply
from gateway.engine.engine import Engine
from gateway.exchange.exchange import Exchange
from gateway.timers import Deadlines
from gateway.upstreams.pool import build_pools
from gateway.upstreams.upstream import Upstream
from policies.schema.policy import Ceilings, Policy
from routers.plan import Plan, Say, Score, Unavailable
from routers.router import Request, Router
from routers.strategies.direct import Direct
from routers.strategies.speculative import Greedy, Speculative

ASK: dict[str, Any] = {
    "model": "test",
    "messages": [{"role": "user", "content": "What is the sea like?"}],
    "temperature": 0,
}
SECONDS = 0.5
SPECULATIVE = policy(Speculative(rule=Greedy(block=3), otherwise=Direct(tier="llm")))
LIMITED = SPECULATIVE.replace(ceilings=Ceilings(seconds=SECONDS))
PAGES = ["tokenize", "completions", "detokenize"]


@pytest.fixture
async def large() -> AsyncIterator[ToyVllm]:
    async with scripted("large", ToyVllm) as server:
        yield server


@pytest.fixture
async def small() -> AsyncIterator[Drafter]:
    async with scripted("small", Drafter) as server:
        server.drafts = lambda begun: ToyVllm.truth[len(begun) :]
        yield server


def servers(small: Scripted, large: Scripted) -> list[dict[str, Any]]:
    return [upstream(small, "slm"), upstream(large, "llm", engine="vllm")]


async def last_exchange(gateway: Gateway) -> dict[str, Any]:
    (exchange_id,) = await until(gateway.app.exchanges.ids)
    return await gateway.exchange(exchange_id)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("page", PAGES)
async def test_before_anything_was_said_the_client_is_told_of_the_ceiling(
    start: StartGateway, small: Drafter, large: ToyVllm, page: str, stream: bool
) -> None:
    large.hangs = page
    gateway = await start(settings_of(*servers(small, large)), [LIMITED])
    status, headers, body = await gateway.post("/chat/completions", ASK | {"stream": stream})
    assert (status, json.loads(body)["error"]["code"]) == (403, "ceiling_reached")
    found = await gateway.exchange(headers["x-smallfirst-id"])
    assert (found["status"], found["error"]) == (403, "ceiling_reached")
    assert "ceiling" in [call["outcome"] for call in found["calls"]]
    assert "cancelled" not in [call["outcome"] for call in found["calls"]]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("page", "after"), [("tokenize", 2), ("completions", 1), ("detokenize", 1)])
async def test_what_was_said_by_then_is_the_answer(
    start: StartGateway, small: Drafter, large: ToyVllm, page: str, after: int, stream: bool
) -> None:
    large.hangs, large.fails_after = page, after
    gateway = await start(settings_of(*servers(small, large)), [LIMITED])
    status, _, raw = await gateway.post("/chat/completions", ASK | {"stream": stream})
    assert status == 200, raw
    text = text_of(raw) if stream else json.loads(raw)["choices"][0]["message"]["content"]
    assert ToyVllm.truth.startswith(text)
    assert text
    assert b'"finish_reason":"length"' in raw.replace(b": ", b":")


@pytest.mark.parametrize("page", PAGES)
async def test_a_client_that_leaves_meanwhile_has_left(
    start: StartGateway, small: Drafter, large: ToyVllm, page: str
) -> None:
    large.hangs = page
    minutes = SPECULATIVE.replace(ceilings=Ceilings(seconds=600.0))
    gateway = await start(settings_of(*servers(small, large)), [minutes])
    asking = asyncio.ensure_future(gateway.post("/chat/completions", ASK))
    await soon(large.holding.wait())
    asking.cancel()
    found = await last_exchange(gateway)
    assert (found["status"], found["error"]) == (499, None)
    assert found["calls"][-1]["outcome"] == "cancelled"


class Talkative(Router):
    """Says the same for ever, and takes no no."""

    kind: Literal["talkative"] = "talkative"

    def plan(self, request: Request) -> Plan:
        yield Score("llm", "The sea")
        while True:
            with suppress(Unavailable):
                yield Say("llm", (1, 2))


def exchange_of(policy: Policy) -> Exchange:
    body = ASK | {"stream": True}
    return Exchange(
        surface="chat",
        endpoint="chat",
        policy=policy,
        body=body,
        raw=orjson.dumps(body),
        request=Request(
            stream=True,
            tiers=frozenset({"slm", "llm"}),
            able=frozenset({"slm", "llm"}),
            verifies=frozenset({"scoring"}),
            greedy=True,
        ),
        alone_price=None,
    )


@asynccontextmanager
async def running(
    exchange: Exchange, send: Send, *servers: dict[str, Any]
) -> AsyncIterator[asyncio.Future[None]]:
    """The exchange under way, without a gateway around it."""
    upstreams = [Upstream(one) for one in settings_of(*servers).upstreams]
    reply = StreamReply(send, exchange, 60.0, Deadlines())
    task = asyncio.ensure_future(Engine(build_pools(upstreams), leave=lambda _: None).run(exchange, reply))
    try:
        yield task
    finally:
        task.cancel()
        reply.close()
        for one in upstreams:
            await one.close()


async def send_to_nobody(message: Any) -> None:
    """Where a reply goes that nobody reads."""


async def test_nothing_more_is_said_once_the_time_is_over(small: Drafter, large: ToyVllm) -> None:
    policy = Policy.model_construct(name="test", router=Talkative(), ceilings=Ceilings(calls=8, seconds=0.2))
    exchange = exchange_of(policy)
    async with running(exchange, send_to_nobody, *servers(small, large)) as task:
        await soon(task)
    assert exchange.error == "ceiling_reached"


async def test_a_client_that_leaves_after_the_time_was_over_has_left(small: Drafter, large: ToyVllm) -> None:
    """It does not read what ends its answer."""
    large.hangs, large.fails_after = "completions", 1
    unread = asyncio.Event()

    async def send(message: Any) -> None:
        if b'"length"' in message.get("body", b""):
            unread.set()
            await asyncio.Event().wait()

    exchange = exchange_of(LIMITED)
    async with running(exchange, send, *servers(small, large)) as task:
        await soon(unread.wait())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await soon(task)
    assert (exchange.status, exchange.cancelled, exchange.error) == (499, True, None)
