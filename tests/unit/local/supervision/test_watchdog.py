"""When an engine hangs: it writes nothing for us, and its counters stand still."""

import asyncio
import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from support.fake_engine import FakeVllm
from support.gateways import Gateway, StartGateway, upstream
from support.scripted_server import Reply, Scripted
from support.waiting import soon, until

from gateway.local.supervision.watchdog import VitalSigns, build_vital_signs, wait_until_hung
from gateway.settings import Settings
from gateway.upstreams.settings import UpstreamSettings
from gateway.upstreams.transport.transport import TransportError
from gateway.upstreams.upstream import Upstream
from policies.schema.policy import Policy
from routers.strategies.direct import Direct

HOME_FIRST = Policy(name="home-first", description="For tests.", router=Direct(tier="slm", fallback=True))


class Engine:
    """An engine whose tokens and counters a test decides about."""

    def __init__(self) -> None:
        self.writes = True
        self.counters: Callable[[], str] = lambda: "42"
        self.asked = 0
        self.reports: list[bool] = []

    async def write_token(self) -> None:
        self.asked += 1
        if not self.writes:
            await asyncio.Event().wait()

    async def read_counters(self) -> str:
        return self.counters()

    def watch(self) -> "asyncio.Task[None]":
        signs = VitalSigns(
            self.write_token, self.read_counters, self.reports.append, 0.2, 0.05, interval_s=0.01, poll_s=0.01
        )
        return asyncio.create_task(wait_until_hung(signs))


async def stop(watching: "asyncio.Task[None]") -> None:
    watching.cancel()
    await asyncio.wait([watching])


async def test_an_engine_that_writes_is_asked_again_and_again():
    engine = Engine()
    watching = engine.watch()
    await until(lambda: engine.asked > 20)
    assert not watching.done()
    assert set(engine.reports) == {True}
    await stop(watching)


async def test_an_engine_that_writes_nothing_counts_as_down_and_then_hangs():
    engine = Engine()
    watching = engine.watch()
    await until(lambda: engine.asked > 2)
    engine.writes = False
    await soon(watching)
    assert (engine.reports[0], engine.reports[-1]) == (True, False)


async def test_a_busy_engine_is_told_from_a_hung_one_by_its_counters():
    """Its slots are full: it writes for others, and nothing for us."""
    engine, tokens = Engine(), itertools.count()
    engine.writes, engine.counters = False, lambda: str(next(tokens))
    watching = engine.watch()
    await until(lambda: engine.asked > 20)
    assert not watching.done()
    assert set(engine.reports) == {True}
    engine.counters = lambda: "42"
    await soon(watching)


async def test_an_engine_that_answers_nothing_at_all_hangs():
    engine = Engine()

    def refuse() -> str:
        raise TransportError("timeout", "no response", before_response=True)

    engine.writes, engine.counters = False, refuse
    await soon(engine.watch())


async def test_an_engine_that_is_slow_for_a_while_is_down_only_meanwhile():
    engine = Engine()
    engine.writes = False
    tokens: list[str] = ["0"]
    engine.counters = lambda: tokens[-1]
    watching = engine.watch()
    await until(lambda: False in engine.reports)
    tokens.append("1")
    await until(lambda: True in engine.reports)
    assert not watching.done()
    await stop(watching)


async def test_an_answer_is_a_sign_of_life_and_a_servers_own_failure_is_none(slm: Scripted):
    slm.says(Reply(body={"choices": []}), Reply(status=404), Reply(status=500))
    local = Upstream(UpstreamSettings(**upstream(slm, "slm")))
    signs = build_vital_signs(local, 5.0)
    await signs.write_token()
    await signs.write_token()
    with pytest.raises(TransportError, match="status 500 and no token"):
        await signs.write_token()
    assert slm.paths == ["/v1/completions"] * 3
    assert slm.requests[0]["max_tokens"] == 1
    await local.close()


@pytest.fixture
async def gateway(
    start: StartGateway, llm: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Gateway:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    fake = FakeVllm(tmp_path)
    llm.says("Cold, says the cloud.")
    settings = Settings(local=fake.engine(hung_after=2), upstreams=[upstream(llm, "llm")])
    gateway = await start(settings, [HOME_FIRST])
    gateway.fake = fake  # type: ignore[attr-defined]
    return gateway


@pytest.mark.heavy
async def test_a_stopped_vllm_is_restarted_and_its_request_goes_to_the_large_model(gateway: Gateway):
    fake: FakeVllm = gateway.fake  # type: ignore[attr-defined]
    before = fake.pids()
    body = {"model": "home-first", "messages": [{"role": "user", "content": "hold"}]}
    asking = asyncio.create_task(gateway.post("/chat/completions", body))
    await until(lambda: fake.seen("holding"))
    os.kill(fake.server, signal.SIGSTOP)
    status, headers, _ = await soon(asking)
    assert (status, headers["x-smallfirst-route"]) == (200, "llm")
    await until(lambda: len(fake.pids() - before) == 3 and gateway.upstream("slm").is_up)
    assert fake.pids().isdisjoint(before)
