"""A wrong key, URL or model of the large model is an error, unless the policy lets the small model answer instead."""

import json
from typing import Any

import pytest
from support.gateways import StartGateway, settings_of, simple_calibrator, simple_policy, upstream
from support.pairwise import every_pair
from support.scripted_server import Reply, Scripted
from support.strategy_requests import ASK, HOPELESS, SENTENCE, SURE, UNSURE, figures_of, hedge, policy

from policies.schema.policy import Policy
from routers.strategies.cascade import Cascade
from routers.strategies.difficulty import Difficulty, Gate
from routers.strategies.direct import Direct
from routers.strategies.speculative import Speculative

MISTAKES = {str(status): status for status in (401, 403, 404, 405, 307)}
PASSING = {str(status): status for status in (402, 408, 429, 500, 502, 503, 529)}
HARD = Gate(limits={"turns": 0.0})
TWO = f"{SENTENCE} But glue purple seven of of the the of"
BEGINNING = len(SENTENCE.split())


def all_policies(**more: Any) -> dict[str, Policy]:
    """A policy of each strategy whose request comes to the large model, and what the small one drafts meanwhile."""
    splice = Cascade(accept=0.5, commit=0.8, give_up=0.3, release="splice", calibrator=simple_calibrator())
    return {
        "direct": policy(Direct(tier="llm"), **more),
        "difficulty": policy(Difficulty(gate=HARD), **more),
        "cascade": simple_policy().replace(**more),
        "given up": simple_policy().replace(**more),
        "splice": policy(splice, **more),
        "hedge": hedge().replace(**more),
        "speculative": policy(Speculative(otherwise=Direct(tier="llm")), **more),
    }


DRAFTS = {
    "given up": Reply(SENTENCE, logprobs=HOPELESS),
    "splice": Reply(TWO, logprobs=[SURE] * BEGINNING + [-9.0] * (len(TWO.split()) - BEGINNING)),
}
STRATEGIES = [*all_policies()]
FRAMINGS = {"plain": False, "stream": True}


@pytest.fixture
def body(request: pytest.FixtureRequest) -> dict[str, Any]:
    return ASK | {"stream": request.param}


async def ask(
    start: StartGateway,
    slm: Scripted,
    llm: Scripted,
    ran_under: Policy,
    body: Any,
    reply: Reply,
    draft: Reply,
) -> tuple[int, dict[str, Any], bytes]:
    engine = (
        "vllm" if ran_under.router.kind == "cascade" and ran_under.router.release == "splice" else "openai"
    )
    servers = upstream(slm, "slm"), upstream(llm, "llm", engine=engine)
    gateway = await start(settings_of(*servers), [ran_under])
    slm.says(draft)
    llm.says(reply)
    status, headers, raw = await gateway.post("/chat/completions", body)
    return status, await gateway.exchange(headers["x-smallfirst-id"]), raw


@every_pair(name=STRATEGIES, status=MISTAKES, body=FRAMINGS, indirect=["body"])
async def test_an_operators_mistake_is_an_error(
    start: StartGateway, slm: Scripted, llm: Scripted, body: Any, name: str, status: int
):
    draft = DRAFTS.get(name, Reply(SENTENCE, logprobs=UNSURE))
    answered, exchange, raw = await ask(
        start, slm, llm, all_policies()[name], body, Reply(status=status), draft
    )
    begun = name == "splice" and body["stream"]
    assert answered == (200 if begun else 502)
    error = json.loads(raw.strip().split(b"\n\n")[-1].removeprefix(b"data: ") if begun else raw)["error"]
    assert (error["code"], str(status) in error["message"]) == ("upstream_refused", True)
    assert (exchange["status"], exchange["error"], exchange["route"]) == (502, "upstream_refused", "none")
    assert exchange["calls"][-1]["outcome"] == "misconfigured"


@every_pair(name=STRATEGIES, body=FRAMINGS, indirect=["body"])
async def test_the_policy_may_say_otherwise(
    start: StartGateway, slm: Scripted, llm: Scripted, body: Any, name: str
):
    ran_under = all_policies(fallback_if_misconfigured=True)[name]
    draft = DRAFTS.get(name, Reply(SENTENCE, logprobs=UNSURE))
    answered, exchange, _ = await ask(start, slm, llm, ran_under, body, Reply(status=401), draft)
    reason = "not_speculated" if name == "speculative" else "llm_misconfigured"
    assert (answered, exchange["route"], exchange["reason"]) == (200, "slm", reason), exchange


@every_pair(
    name=["direct", "difficulty", "cascade", "hedge"], status=PASSING, body=FRAMINGS, indirect=["body"]
)
async def test_what_passes_falls_back_as_before(
    start: StartGateway, slm: Scripted, llm: Scripted, body: Any, name: str, status: int
):
    draft = DRAFTS.get(name, Reply(SENTENCE, logprobs=UNSURE))
    reply = Reply(status=status, headers={"Retry-After": "30"})
    answered, exchange, _ = await ask(start, slm, llm, all_policies()[name], body, reply, draft)
    assert (answered, exchange["route"], exchange["reason"]) == (200, "slm", "no_llm")


async def test_mistakes_open_no_breaker_that_would_hide_them(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await start(
        settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [policy(Direct(tier="llm"))]
    )
    llm.says(Reply(status=401))
    for _ in range(7):
        status, _, _ = await gateway.post("/chat/completions", ASK)
        assert status == 502


async def test_a_small_model_that_refuses_is_made_good_by_the_large_one(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [simple_policy()])
    slm.says(Reply(status=401))
    status, headers, _ = await gateway.post("/chat/completions", ASK)
    assert (status, headers["x-smallfirst-reason"]) == (200, "no_slm")


async def test_a_draft_that_wins_its_race_needs_no_large_model(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [hedge()])
    llm.says(Reply(status=401))
    status, _, raw = await gateway.post("/chat/completions", ASK | {"stream": True})
    assert (status, figures_of(raw)["route"]) == (200, "slm")
