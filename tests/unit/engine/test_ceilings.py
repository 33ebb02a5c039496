"""Ceilings hold whatever a plan asks for: a hostile one asks at random, for ever, and takes no no."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Literal

import orjson
from hypothesis import Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from support.gateways import PRICE, settings_of, upstream
from support.scripted_server import Reply, Scripted, scripted
from support.waiting import soon

from gateway.api.writers import PlainReply
from gateway.engine.engine import Engine
from gateway.exchange.exchange import Exchange
from gateway.upstreams.pool import build_pools
from gateway.upstreams.upstream import Upstream
from policies.schema.policy import Ceilings, Policy
from routers.cost import Price
from routers.plan import Ask, Both, Generate, Judge, Plan, Reason, Say, Score, Unavailable
from routers.router import Request, Router
from routers.watch import ObservingWatch

BODY: dict[str, Any] = {"model": "hostile", "messages": [{"role": "user", "content": "Spend it all." * 20}]}
LONG = " ".join(["word"] * 30)
TIERS = st.sampled_from(["slm", "llm"])
WRITES = st.builds(
    Generate,
    tier=TIERS,
    watch=st.sampled_from([None, ObservingWatch]),
    prefix=st.sampled_from(["", "It is"]),
    patience=st.just(0.0),
    because=st.just(Reason.POLICY),
    max_tokens=st.sampled_from([None, 5, 10_000]),
    n=st.sampled_from([None, None, 3]),
    prediction=st.sampled_from(["", "It is"]),
)
JUDGES = st.builds(
    Judge,
    tier=TIERS,
    question=st.just("{request}?"),
    labels=st.just(("yes", "no")),
    answer=st.sampled_from(["", "It is"]),
    because=st.just(Reason.JUDGED),
    passage=st.none(),
    model=st.just(""),
    context=st.just(""),
    samples=st.sampled_from([0, 0, 1, 3]),
    compare=st.sampled_from(["text", "entailment"]),
    sample=st.just(""),
)
ASKS = st.one_of(
    WRITES,
    JUDGES,
    st.builds(Both, WRITES, WRITES),
    st.builds(Score, TIERS, st.just("It is"), after=st.sampled_from([(), (1, 2)])),
    st.builds(Say, TIERS, st.just((1, 2)), finish=st.sampled_from([None, "stop"])),
)


class Hostile(Router):
    """Asks the same list again and again, whatever comes of it."""

    kind: Literal["hostile"] = "hostile"
    asks: tuple[Any, ...]

    def plan(self, request: Request) -> Plan:
        for ask in self._endless():
            with suppress(Unavailable):
                yield ask
        raise AssertionError("it never ends by itself")

    def _endless(self) -> Iterator[Ask]:
        while True:
            yield from self.asks


def honest(server: Scripted, body: dict[str, Any]) -> Reply:
    """Writes as many tokens as it may, as a server that obeys `max_tokens` does, in each choice."""
    most = min(30, body.get("max_tokens") or body.get("max_completion_tokens") or 30)
    written = most * (body.get("n") or 1)
    usage = {"prompt_tokens": 10, "completion_tokens": written, "total_tokens": 10 + written}
    return Reply(" ".join(LONG.split()[:most]), extra={} if body.get("stream") else {"usage": usage})


class Obedient(Scripted):
    async def answer(self, request: Any) -> Any:
        self.script = [honest(self, await request.json())]
        return await super().answer(request)


async def spent(asks: list[Ask], ceilings: Ceilings) -> tuple[Exchange, list[Obedient]]:
    async with scripted("small", Obedient) as slm, scripted("large", Obedient) as llm:
        configured = settings_of(upstream(slm, "slm"), upstream(llm, "llm", engine="vllm"))
        upstreams = [Upstream(one) for one in configured.upstreams]
        over: list[Exchange] = []
        exchange = Exchange(
            surface="chat",
            endpoint="chat",
            policy=Policy.model_construct(
                name="hostile", router=Hostile(asks=tuple(asks)), ceilings=ceilings
            ),
            body=BODY,
            raw=orjson.dumps(BODY),
            request=Request(),
            alone_price=None,
        )

        async def nobody(message: Any) -> None:
            pass

        try:
            await soon(
                Engine(build_pools(upstreams), leave=over.append).run(exchange, PlainReply(nobody, exchange))
            )
        finally:
            for one in upstreams:
                await one.close()
        assert over == [exchange]
        return exchange, [slm, llm]


PHASES = (Phase.explicit, Phase.generate)
"""Without shrinking: an example starts two servers."""


@examples(max_examples=40, phases=PHASES)
@given(
    asks=st.lists(ASKS, min_size=1, max_size=4),
    calls=st.integers(1, 6),
    tokens=st.one_of(st.none(), st.integers(1, 80)),
    usd=st.one_of(st.none(), st.floats(1e-5, 1e-3)),
)
def test_no_plan_gets_past_the_ceilings(
    asks: list[Ask], calls: int, tokens: int | None, usd: float | None
) -> None:
    exchange, servers = asyncio.run(spent(asks, Ceilings(calls=calls, tokens=tokens, usd=usd)))
    assert exchange.error in ("ceiling_reached", "not_supported")
    assert sum(len(server.requests) for server in servers) <= calls
    if tokens is not None:
        assert sum(call.usage.completion_tokens for call in exchange.calls) <= tokens
    if usd is not None:
        # A prompt is estimated before it is sent: the double counts ten tokens, the estimate is longer.
        assert exchange.cost_usd <= usd
    assert exchange.cost_usd <= calls * (Price(**PRICE).output * 90 + Price(**PRICE).input * 10) / 1e6


def test_the_time_of_an_exchange_ends_a_plan_that_would_go_on() -> None:
    async def timed() -> float:
        began = asyncio.get_running_loop().time()
        exchange, _ = await spent([Generate("slm")], Ceilings(calls=64, seconds=0.05))
        assert exchange.error == "ceiling_reached"
        return asyncio.get_running_loop().time() - began

    assert asyncio.run(timed()) < 5
