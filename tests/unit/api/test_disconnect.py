"""A client that leaves midway frees every upstream that works for it within 100 ms, whatever the strategy."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support.disconnect import MOST, freed
from support.gateways import Gateway, StartGateway, settings_of, simple_calibrator, simple_policy, upstream
from support.scripted_server import Reply, Scripted
from support.waiting import until

from policies.schema.policy import Policy
from routers.judges.draft_judge import Verify
from routers.strategies.direct import Direct
from routers.strategies.hedge import Hedge

QUESTION = "Is ice cold?"
CHAT: dict[str, Any] = {"model": "test", "messages": [{"role": "user", "content": QUESTION}]}
RESPONSE: dict[str, Any] = {"model": "test", "input": QUESTION}
LONG = "one two three four five six seven eight nine ten"
SENTENCE = "Ice is very cold to the touch."
SURE, UNSURE = -0.01, -5.0
EVERYWHERE = pytest.mark.parametrize("path", ["/chat/completions", "/responses"])
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


async def made(start: StartGateway, slm: Scripted, llm: Scripted, policy: Policy) -> Gateway:
    large = upstream(llm, "llm", capabilities={"prefill": True})
    return await start(settings_of(upstream(slm, "slm"), large), [policy])


def asking(gateway: Gateway, path: str, stream: bool) -> Callable[[], Any]:
    body = (CHAT if path == "/chat/completions" else RESPONSE) | {"stream": stream}
    return lambda: gateway.post(path, body)


async def ended(gateway: Gateway) -> list[dict[str, Any]]:
    """All exchanges, once nothing is under way."""
    upstreams = [one for pool in gateway.app.pools.values() for one in pool.upstreams]
    await until(lambda: not any(one.load for one in upstreams))
    await gateway.get("/v1/exchanges/none")
    return [await gateway.exchange(one) for one in gateway.app.exchanges.ids()]


def outcomes(exchange: dict[str, Any]) -> list[str]:
    return [call["outcome"] for call in exchange["calls"]]


@STREAMS
@EVERYWHERE
async def test_a_draft_that_is_held_or_flows(
    start: StartGateway, slm: Scripted, llm: Scripted, path: str, stream: bool
):
    gateway = await made(start, slm, llm, simple_policy())

    def say(gate: asyncio.Event) -> None:
        slm.says(Reply(LONG, logprobs=SURE, gate=gate, gate_at=8))

    assert await freed(asking(gateway, path, stream), say, slm) < MOST
    for exchange in await ended(gateway):
        assert (exchange["status"], exchange["cancelled"], outcomes(exchange)) == (499, True, ["cancelled"])
    assert llm.requests == []


@STREAMS
@EVERYWHERE
async def test_an_escalated_answer(
    start: StartGateway, slm: Scripted, llm: Scripted, path: str, stream: bool
):
    gateway = await made(start, slm, llm, simple_policy())

    def say(gate: asyncio.Event) -> None:
        slm.says(Reply("Maybe?", logprobs=UNSURE))
        llm.says(Reply(LONG, gate=gate, gate_at=3))

    assert await freed(asking(gateway, path, stream), say, llm) < MOST
    for exchange in await ended(gateway):
        assert (exchange["status"], outcomes(exchange)) == (499, ["ok", "cancelled"])


@STREAMS
@EVERYWHERE
async def test_an_answer_that_nobody_reads_on_its_way(
    start: StartGateway, slm: Scripted, llm: Scripted, path: str, stream: bool
):
    direct = Policy(name="test", description="For tests.", router=Direct(tier="llm"))
    gateway = await made(start, slm, llm, direct)

    def say(gate: asyncio.Event) -> None:
        llm.says(Reply(LONG, gate=gate, gate_at=3))

    assert await freed(asking(gateway, path, stream), say, llm) < MOST
    assert {tuple(outcomes(exchange)) for exchange in await ended(gateway)} == {("cancelled",)}


@STREAMS
@EVERYWHERE
async def test_both_legs_of_a_hedge(
    start: StartGateway, slm: Scripted, llm: Scripted, path: str, stream: bool
):
    router = Hedge(accept=0.5, commit=0.9, give_up=0.1, calibrator=simple_calibrator())
    gateway = await made(start, slm, llm, Policy(name="test", description="For tests.", router=router))

    def say(gate: asyncio.Event) -> None:
        slm.says(Reply(LONG, logprobs=SURE, gate=gate, gate_at=3))
        llm.says(Reply(LONG, gate=gate))

    assert await freed(asking(gateway, path, stream), say, slm, llm) < MOST
    assert {tuple(outcomes(exchange)) for exchange in await ended(gateway)} == {("cancelled", "cancelled")}


@EVERYWHERE
async def test_the_second_writer_of_a_spliced_stream(
    start: StartGateway, slm: Scripted, llm: Scripted, path: str
):
    gateway = await made(start, slm, llm, simple_policy(release="splice"))
    logprobs = [SURE] * len(SENTENCE.split()) + [-9.0] * len(LONG.split())

    def say(gate: asyncio.Event) -> None:
        slm.says(Reply(f"{SENTENCE} {LONG}", logprobs=logprobs))
        llm.says(Reply(LONG, gate=gate, gate_at=3))

    assert await freed(asking(gateway, path, stream=True), say, llm) < MOST
    assert {outcomes(exchange)[1] for exchange in await ended(gateway)} == {"cancelled"}


@STREAMS
@EVERYWHERE
async def test_a_judge(start: StartGateway, slm: Scripted, llm: Scripted, path: str, stream: bool):
    gateway = await made(start, slm, llm, simple_policy(release="hold", judge=Verify(tier="llm")))

    def say(gate: asyncio.Event) -> None:
        slm.says(Reply(SENTENCE, logprobs=SURE))
        llm.says(Reply("yes", gate=gate))

    assert await freed(asking(gateway, path, stream), say, llm) < MOST
    assert {tuple(outcomes(exchange)) for exchange in await ended(gateway)} == {("ok", "cancelled")}
