"""What outlives an exchange: conversations that stay with the large model, and shadows."""

import json
from collections.abc import Callable
from typing import Any

from support.gateways import Gateway, StartGateway, settings_of, simple_policy, upstream
from support.scripted_server import Reply, Scripted
from support.strategy_requests import ASK, SENTENCE, SURE, UNSURE, figures_of, policy, streamed
from support.waiting import soon, until

from policies.schema.policy import Affinity, Shadow
from routers.strategies.direct import Direct


def turn(*texts: str) -> dict[str, Any]:
    roles = ["user", "assistant"] * len(texts)
    return ASK | {
        "messages": [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    }


async def test_an_escalated_conversation_stays_with_the_llm_for_its_turns(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await start(
        settings_of(upstream(slm, "slm"), upstream(llm, "llm")),
        [simple_policy().replace(affinity=Affinity(turns=2))],
    )
    slm.says(Reply(SENTENCE, logprobs=UNSURE), Reply(SENTENCE, logprobs=SURE))
    said = ["a"]
    reasons = []
    for _ in range(4):
        _, headers, _ = await gateway.post("/chat/completions", turn(*said))
        reasons.append((headers["x-smallfirst-route"], headers["x-smallfirst-reason"]))
        said += ["answer", "more"]
    escalated, stays, back = ("llm", "low_confidence"), ("llm", "affinity"), ("slm", "confident")
    assert reasons == [escalated, stays, stays, back]
    _, headers, _ = await gateway.post("/chat/completions", turn("another", "answer", "more"))
    assert headers["x-smallfirst-route"] == "slm"


async def test_a_conversation_escalated_because_a_server_was_down_does_not_stay(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await start(
        settings_of(upstream(slm, "slm"), upstream(llm, "llm")),
        [simple_policy().replace(affinity=Affinity(turns=2))],
    )
    slm.says(Reply(status=500), Reply(SENTENCE, logprobs=SURE))
    assert (await gateway.post("/chat/completions", turn("a")))[1]["x-smallfirst-reason"] == "no_slm"
    assert (await gateway.post("/chat/completions", turn("a", "b", "c")))[1]["x-smallfirst-route"] == "slm"


async def test_a_shadow_is_recorded_beside_the_answer_and_nobody_gets_it(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    other = policy(Direct(tier="llm")).replace(name="large-only")
    shadowed = simple_policy().replace(shadow=Shadow(policy="large-only", share=1.0))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [shadowed, other])
    slm.says(Reply(SENTENCE, logprobs=SURE))
    text, _, raw = await streamed(gateway, ASK)
    assert text == SENTENCE
    await soon(llm.arrived.wait())
    shadow = await first_that(gateway, lambda found: found["shadow_of"] == figures_of(raw)["id"])
    assert (shadow["policy"], shadow["route"], shadow["stream"]) == ("large-only", "llm", False)
    _, metrics = await metrics_of(gateway)
    assert 'smallfirst_requests_total{endpoint="chat",policy="large-only"' not in metrics
    assert 'smallfirst_upstream_calls_total{outcome="ok",tier="llm"' in metrics


async def test_embeddings_have_no_shadow(start: StartGateway, slm: Scripted, llm: Scripted):
    other = policy(Direct(tier="llm")).replace(name="large-only")
    shadowed = simple_policy().replace(shadow=Shadow(policy="large-only", share=1.0))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [shadowed, other])
    slm.says(Reply(SENTENCE, logprobs=SURE))
    assert (await gateway.post("/embeddings", {"model": "test", "input": "ice"}))[0] == 200
    _, headers, _ = await gateway.post("/chat/completions", ASK)
    await first_that(gateway, lambda found: found["shadow_of"] == headers["x-smallfirst-id"])
    assert len(gateway.app.exchanges.ids()) == 3
    assert len(llm.requests) == 1


async def test_a_shadow_that_is_down_or_private_disturbs_nobody(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    other = policy(Direct(tier="llm", fallback=False)).replace(name="large-only")
    shadowed = simple_policy().replace(shadow=Shadow(policy="large-only", share=1.0))
    gateway = await start(
        settings_of(upstream(slm, "slm"), upstream(llm, "llm", cloud=True)), [shadowed, other]
    )
    slm.says(Reply(SENTENCE, logprobs=SURE))
    llm.says(Reply(status=500))
    for own in ({}, {"smallfirst": {"private": True}}):
        status, headers, _ = await gateway.post("/chat/completions", ASK | own)
        assert status == 200
        shadow = await first_that(gateway, lambda found: found["shadow_of"] == headers["x-smallfirst-id"])  # noqa: B023
        assert shadow["error"] == ("private" if own else "upstream_error")
    assert len(llm.requests) == 1


async def metrics_of(gateway: Gateway) -> tuple[int, str]:
    async with gateway.http.get(f"{gateway.root}/metrics") as response:
        return response.status, await response.text()


async def first_that(gateway: Gateway, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first exchange that is as wanted, once there is one."""

    async def found() -> dict[str, Any] | None:
        for name in gateway.app.exchanges.ids():
            if wanted(exchange := await gateway.exchange(name)):
                return exchange
        return None

    return dict(await until(found))


async def test_a_shadow_of_a_policy_that_is_not_served_is_refused_and_named(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    shadowed = simple_policy().replace(shadow=Shadow(policy="nobody", share=0.5))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [shadowed])
    status, _, raw = await gateway.post("/chat/completions", ASK)
    error = json.loads(raw)["error"]
    assert (status, error["code"]) == (400, "policy_unavailable")
    assert "shadow.policy nobody" in error["message"]
