"""A share of all answers is judged once it is given: never at an answer's cost, and nothing private leaves."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support.gateways import Gateway, StartGateway, settings_of, simple_policy, upstream
from support.judge_replies import said
from support.scripted_server import Reply, Scripted
from support.strategy_requests import ASK
from support.waiting import soon, until

from gateway.background import evaluations as evaluation
from gateway.background import lanes
from policies.schema.evaluate import Evaluate
from policies.schema.policy import Policy
from routers.strategies.direct import Direct

SENTENCE = "Ice is very cold to the touch."
RUBRIC = {"name": "mine", "text": "Rate {answer}"}
LARGE = Direct(tier="llm")


def evaluating(*evaluators: Any, router: Any = None, **changes: Any) -> Policy:
    wanted = Evaluate(share=1, evaluators=evaluators or ("verify",), **changes)
    return simple_policy().replace(evaluate=wanted, **({} if router is None else {"router": router}))


async def told(gateway: Gateway) -> str:
    async with gateway.http.get(f"{gateway.root}/metrics") as response:
        return await response.text()


async def told_as(gateway: Gateway, wanted: Callable[[str], bool]) -> str:
    """The metrics, once they are as wanted."""

    async def found() -> str | None:
        metrics = await told(gateway)
        return metrics if wanted(metrics) else None

    return str(await until(found))


def outcome(name: str, count: int = 1) -> Callable[[str], bool]:
    line = f'smallfirst_evaluations_total{{outcome="{name}",policy="test"}} {count:.1f}'
    return lambda metrics: line in metrics


async def ask(gateway: Gateway, path: str = "/chat/completions", **more: Any) -> str:
    status, headers, raw = await gateway.post(path, ASK | more)
    assert status == 200, raw
    return headers["x-smallfirst-id"]


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/chat/completions", {}),
        ("/chat/completions", {"stream": True}),
        ("/completions", {"prompt": "Is ice cold?", "stream": True}),
        ("/responses", {"input": "Is ice cold?"}),
        ("/responses", {"input": "Is ice cold?", "stream": True}),
    ],
)
@pytest.mark.parametrize("tier", ["slm", "llm"])
async def test_the_answer_of_either_tier_is_judged_afterwards(
    start: StartGateway, slm: Scripted, llm: Scripted, path: str, more: dict[str, Any], tier: Any
):
    """Streams that are relayed unread, too."""
    judging = evaluating("verify", {"kind": "rate", "rubric": RUBRIC}, "structure", router=Direct(tier=tier))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [judging])
    answers = [Reply(SENTENCE)] if tier == "slm" else []
    llm.says(SENTENCE)
    slm.says(*answers, said(yes=0.8, no=0.2), said(yes=0.6, no=0.4), said(_2=1.0))
    body = {key: value for key, value in ASK.items() if key == "model" or path.startswith("/chat")}
    status, headers, raw = await gateway.post(path, body | more)
    assert status == 200, raw
    metrics = await told_as(gateway, outcome("done"))
    assert f'smallfirst_quality_sum{{evaluator="verify",policy="test",route="{tier}"}} 0.7' in metrics
    assert f'smallfirst_quality_sum{{evaluator="rate:mine",policy="test",route="{tier}"}} 0.25' in metrics
    assert f'smallfirst_quality_sum{{evaluator="structure",policy="test",route="{tier}"}} 1.0' in metrics
    question = slm.requests[-3]["messages"][0]["content"]
    assert f"Proposed answer:\n{SENTENCE}\n" in question
    assert "Is ice cold?" in question
    shown = (await gateway.exchange(headers["x-smallfirst-id"]))["evaluation"]
    assert [result["evaluator"] for result in shown["results"]] == ["verify", "rate:mine", "structure"]
    aside = await gateway.exchange(shown["id"])
    assert (aside["aside"], aside["shadow_of"]) == ("evaluate", headers["x-smallfirst-id"])
    assert metrics.count("smallfirst_request_seconds_count") == 1  # what nobody asked for is no request


@pytest.mark.parametrize("judge", ["small-server", "local"])
async def test_steady_traffic_does_not_keep_it_from_running(
    start: StartGateway, slm: Scripted, llm: Scripted, judge: str
):
    """On the local engine, within its share; elsewhere, beside all requests."""
    servers = upstream(slm, "slm", name=judge), upstream(llm, "llm")
    gateway = await start(settings_of(*servers), [evaluating(router=LARGE)])
    llm.says(Reply(SENTENCE, gate=(busy := asyncio.Event())))
    always = asyncio.ensure_future(ask(gateway))
    await llm.holding.wait()
    llm.says(SENTENCE)
    slm.says(said(yes=1.0))
    await ask(gateway)
    await told_as(gateway, outcome("done"))
    assert not always.done()
    busy.set()
    await always


async def test_a_request_does_not_interrupt_a_judge_that_is_not_the_local_engine(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [evaluating(router=LARGE)])
    slm.says(Reply("yes", gate=(judging := asyncio.Event())))
    llm.says(SENTENCE)
    for _ in range(5):
        await ask(gateway)
    await soon(slm.holding.wait())
    slm.says(said(yes=1.0))
    judging.set()
    await told_as(gateway, outcome("done", 5))
    assert not slm.gone.is_set()


async def test_on_the_local_engine_it_waits_for_its_next_share_while_requests_run(
    start: StartGateway, slm: Scripted, llm: Scripted, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(evaluation, "ENGINE_SHARE", 1e-9)
    servers = upstream(slm, "slm", name="local"), upstream(llm, "llm")
    gateway = await start(settings_of(*servers), [evaluating(router=LARGE)])
    llm.says(Reply(SENTENCE, gate=(busy := asyncio.Event())))
    always = asyncio.ensure_future(ask(gateway))
    await llm.holding.wait()
    llm.says(SENTENCE)
    slm.says(said(yes=1.0))
    await ask(gateway)
    await told_as(gateway, outcome("done"))
    asked = len(slm.requests)
    await ask(gateway)
    await ask(gateway)
    assert len(slm.requests) == asked
    busy.set()
    await always
    await told_as(gateway, outcome("done", 4))


async def test_what_is_drawn_beyond_the_queue_is_dropped_and_counted(
    start: StartGateway, slm: Scripted, llm: Scripted, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lanes, "MAX_WAITING", 1)
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [evaluating(router=LARGE)])
    slm.says(Reply("yes", gate=(judging := asyncio.Event())))
    llm.says(SENTENCE)
    await ask(gateway)
    await soon(slm.holding.wait())
    slm.says(said(yes=1.0))
    await ask(gateway)
    await ask(gateway)
    assert outcome("queue_full")(await told(gateway))
    judging.set()
    await told_as(gateway, outcome("done", 2))


@pytest.mark.parametrize("where", ["request", "policy"])
async def test_what_is_private_is_judged_by_no_cloud(
    start: StartGateway, slm: Scripted, llm: Scripted, where: str
):
    judging = evaluating({"kind": "verify", "tier": "llm"}, router=Direct(tier="slm"))
    judging = judging.replace(private=where == "policy")
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm", cloud=True)), [judging])
    await ask(gateway, smallfirst={"private": where == "request"})
    await told_as(gateway, outcome("failed"))
    assert llm.requests == []


async def test_an_hour_has_its_dollars(start: StartGateway, slm: Scripted, llm: Scripted):
    judging = evaluating({"kind": "verify", "tier": "llm"}, router=LARGE, usd_per_hour=1e-9)
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [judging])
    llm.says(SENTENCE, said(yes=1.0), said(yes=1.0), SENTENCE)
    await ask(gateway)
    await told_as(gateway, outcome("done"))
    await ask(gateway)
    await told_as(gateway, outcome("unaffordable"))


async def test_answers_that_are_no_text_are_only_checked_for_their_form(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await start(
        settings_of(upstream(slm, "slm"), upstream(llm, "llm")),
        [evaluating("verify", "structure", router=LARGE)],
    )
    tool = {"type": "function", "function": {"name": "f", "parameters": {"required": ["a"]}}}
    llm.says(Reply(calls=[("f", "{}")]))
    await ask(gateway, tools=[tool], stream=True)
    metrics = await told_as(gateway, outcome("done"))
    assert 'smallfirst_quality_sum{evaluator="structure",policy="test",route="llm"} 0.0' in metrics
    assert slm.requests == []


async def test_only_the_drawn_share_is_kept(start: StartGateway, slm: Scripted, llm: Scripted):
    seldom = simple_policy().replace(evaluate=Evaluate(share=1e-9, evaluators=("verify",)), router=LARGE)
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [seldom])
    await ask(gateway)
    assert "smallfirst_evaluations_total{" not in await told(gateway)
    assert slm.requests == []


async def test_groundedness_is_judged_in_the_passages_that_came_with_the_request(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    grounded = {"kind": "rate", "rubric": {"name": "grounded", "text": "Context: {context} Answer: {answer}"}}
    gateway = await start(
        settings_of(upstream(slm, "slm"), upstream(llm, "llm")),
        [evaluating(grounded, "structure", router=LARGE)],
    )
    slm.says(said(_5=1.0))
    llm.says(SENTENCE)
    await ask(gateway)
    await told_as(gateway, outcome("done"))
    assert slm.requests == []  # without a context, it is left out
    await ask(gateway, smallfirst={"context": ["Ice is frozen water.", {"title": "Cold", "text": "Brr."}]})
    await told_as(gateway, outcome("done", 2))
    (question,) = [body["messages"][0]["content"] for body in slm.requests]
    assert question.startswith(f"Context: Ice is frozen water.\n\nCold: Brr. Answer: {SENTENCE}\n")
