"""Every strategy on the real local engine, with a scripted LLM; each record replays."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.gateways import StartGateway, upstream
from support.scripted_server import Reply, Scripted

from gateway.settings import LocalEngine, Settings
from policies.loading.loader import load_policies
from policies.schema.policy import Policy
from routers.judges.draft_judge import Verify
from routers.router import Router
from routers.strategies.cascade import Cascade
from routers.strategies.difficulty import Difficulty, Gate
from routers.strategies.direct import Direct
from routers.strategies.hedge import Hedge

pytestmark = [pytest.mark.engine, pytest.mark.heavy]

EASY = "What is the opposite of hot? Answer with one word."
TALE = "Tell me about the sea in three sentences."


def stock() -> dict[str, Any]:
    auto = load_policies()["auto"]
    assert isinstance(auto, Policy)
    return {"calibrator": getattr(auto.router, "calibrator"), "accept": 0.0}  # noqa: B009


def policy(router: Router) -> Policy:
    return Policy(name="test", description="For tests.", router=router)


def ask(question: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    return {"model": "test", "messages": messages, "temperature": 0, "max_tokens": 60, "stream": True} | more


def settings(llm: Scripted) -> Settings:
    large = upstream(llm, "llm", engine="vllm")
    return Settings(local=LocalEngine(threads=1), upstreams=(large,))


@pytest.mark.parametrize(
    ("router", "question", "route", "reason"),
    [
        pytest.param(lambda: Direct(tier="slm"), EASY, "slm", "policy", id="direct"),
        pytest.param(lambda: Difficulty(gate=Gate(limits={"numbers": 0})), EASY, "slm", "easy", id="easy"),
        pytest.param(
            lambda: Difficulty(gate=Gate(limits={"numbers": 0})),
            "What is 2 + 2?",
            "llm",
            "too_hard",
            id="hard",
        ),
        pytest.param(lambda: Cascade(**stock(), commit=0.0), TALE, "slm", "committed", id="commit"),
        pytest.param(lambda: Cascade(**stock(), release="hold"), EASY, "slm", "confident", id="hold"),
        pytest.param(
            lambda: Cascade(**stock(), release="splice", commit=0.0), TALE, "slm", "committed", id="splice"
        ),
        pytest.param(
            lambda: Cascade(**stock(), release="hold", judge=Verify(accept=0.0)),
            EASY,
            "slm",
            "judged",
            id="judge",
        ),
    ],
)
async def test_each_strategy_takes_its_way_on_the_real_engine(
    start: StartGateway, llm: Scripted, weights: Path, router: Any, question: str, route: str, reason: str
):
    gateway = await start(settings(llm), [policy(router())])
    llm.says("It is what it is.")
    for stream in (True, False):
        status, headers, _ = await gateway.post("/chat/completions", ask(question, stream=stream))
        assert status == 200
        found = await gateway.exchange(headers["x-smallfirst-id"])
        expected = "confident" if reason == "committed" and not stream else reason
        assert (found["route"], found["reason"]) == (route, expected)


async def test_a_sure_real_draft_outruns_an_llm_that_is_slow_and_is_outrun_by_a_fast_one(
    start: StartGateway, llm: Scripted, weights: Path
):
    gateway = await start(settings(llm), [policy(Hedge(**stock(), commit=0.0))])
    llm.says(Reply("Never.", gate=asyncio.Event()))
    _, headers, _ = await gateway.post("/chat/completions", ask(TALE))
    found = await gateway.exchange(headers["x-smallfirst-id"])
    assert (found["route"], [call["outcome"] for call in found["calls"]]) == ("slm", ["ok", "outrun"])
    llm.says("The sea is wide.")
    _, headers, _ = await gateway.post("/chat/completions", ask(TALE, stream=False, max_tokens=400))
    found = await gateway.exchange(headers["x-smallfirst-id"])
    assert (found["route"], [call["outcome"] for call in found["calls"]]) == ("llm", ["outrun", "ok"])


async def test_alone_in_a_loop_the_real_engine_is_stopped_and_free_again(start: StartGateway, weights: Path):
    gateway = await start(Settings(local=LocalEngine(threads=1)))
    forced = {"grammar": 'root ::= "sea " root', "max_tokens": None, "model": "auto"}
    _, headers, raw = await gateway.post("/chat/completions", ask(TALE, **forced))
    assert raw.count(b'"finish_reason":"length"') == 1
    found = await gateway.exchange(headers["x-smallfirst-id"])
    (call,) = found["calls"]
    assert (found["reason"], call["outcome"], call["reason"]) == ("no_llm", "stopped", "loop")
    assert 384 <= call["completion_tokens"] < 512
    status, _, _ = await gateway.post("/chat/completions", ask(EASY, model="auto"))
    assert status == 200
