"""Several upstreams in a tier: one that fails is made good by another, and the record says so and replays."""

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
from support.gateways import PRICE, Gateway, StartGateway, settings_of, simple_policy, upstream
from support.scripted_server import Reply, Scripted
from support.waiting import soon

from gateway.upstreams.resilience.breaker import FAILURES_TO_OPEN
from policies.schema.policy import Ceilings

ASK = {"model": "test", "messages": [{"role": "user", "content": "What is the opposite of hot?"}]}
LARGE = ASK | {"model": "large"}
CONTEXT = {"error": {"code": "context_length_exceeded", "message": "9031 tokens exceed 2048"}}


async def two_llms(start: StartGateway, llm: Scripted, spare: Scripted, **changes: Any) -> Gateway:
    """`large` first, `spare` of the same model where that fails."""
    second = {"model": "large", "priority": 1, "price": {"input": 2.0, "output": 8.0}} | changes
    gateway: Gateway = await start(settings_of(upstream(llm, "llm"), upstream(spare, "llm", **second)))
    return gateway


async def two_slms(start: StartGateway, slm: Scripted, spare: Scripted, llm: Scripted) -> Gateway:
    """Both with the model that the policy `test` is calibrated for, and an LLM."""
    both = upstream(slm, "slm"), upstream(spare, "slm", model="small", priority=1)
    gateway: Gateway = await start(settings_of(*both, upstream(llm, "llm")), [simple_policy()])
    return gateway


async def calls_of(gateway: Gateway, headers: dict[str, str]) -> list[tuple[str, str, bool]]:
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    return [(call["upstream"], call["outcome"], call["retried"]) for call in exchange["calls"]]


FAILURES_BEFORE_A_BYTE = [
    pytest.param(Reply(status=500), "error", id="500"),
    pytest.param(Reply(status=503), "overloaded", id="503"),
    pytest.param(Reply(status=429, headers={"Retry-After": "30"}), "rate_limited", id="429"),
    pytest.param(Reply(status=401), "misconfigured", id="401"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(("failure", "outcome"), FAILURES_BEFORE_A_BYTE)
async def test_a_failure_is_made_good_by_another_upstream(
    start: StartGateway, llm: Scripted, spare: Scripted, stream: bool, failure: Reply, outcome: str
):
    gateway = await two_llms(start, llm, spare)
    llm.says(failure)
    spare.says("Cold.")
    status, headers, raw = await gateway.post("/chat/completions", LARGE | {"stream": stream})
    assert status == 200
    assert b"Cold." in raw
    assert await calls_of(gateway, headers) == [
        ("large-server", outcome, True),
        ("spare-server", "ok", False),
    ]
    async with gateway.http.get(f"{gateway.root}/metrics") as metrics:
        counted = [line for line in (await metrics.text()).splitlines() if "retried_calls_total{" in line]
    assert counted == ['smallfirst_retried_calls_total{tier="llm",upstream="large-server"} 1.0']


@pytest.mark.parametrize(("stream", "outcome"), [(False, "garbage"), (True, "lost")], ids=["plain", "stream"])
async def test_a_response_that_is_no_answer_is_made_good(
    start: StartGateway, llm: Scripted, spare: Scripted, stream: bool, outcome: str
):
    gateway = await two_llms(start, llm, spare)
    llm.says(Reply(body="<html>"))
    status, headers, _ = await gateway.post("/chat/completions", LARGE | {"stream": stream})
    assert status == 200
    assert await calls_of(gateway, headers) == [
        ("large-server", outcome, True),
        ("spare-server", "ok", False),
    ]


async def test_a_server_that_is_not_there_is_made_good(start: StartGateway, llm: Scripted, spare: Scripted):
    gone = upstream(llm, "llm", url="http://127.0.0.1:9/v1", name="gone")
    gateway = await start(settings_of(gone, upstream(spare, "llm", model="large", priority=1)))
    _, headers, _ = await gateway.post("/chat/completions", LARGE)
    assert await calls_of(gateway, headers) == [("gone", "down", True), ("spare-server", "ok", False)]


async def test_a_time_limit_before_the_first_byte_is_made_good(
    start: StartGateway, llm: Scripted, spare: Scripted
):
    limits = {"whole": 0.05, "retries": 0}
    first = upstream(llm, "llm", limits=limits)
    gateway = await start(settings_of(first, upstream(spare, "llm", model="large", priority=1)))
    llm.says(Reply(gate=asyncio.Event()))
    _, headers, _ = await gateway.post("/chat/completions", LARGE)
    assert await calls_of(gateway, headers) == [
        ("large-server", "timeout", True),
        ("spare-server", "ok", False),
    ]


ROLE = b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}\n\n'


@pytest.mark.parametrize("begun", [b": nothing yet\n\n", ROLE], ids=["a comment", "a role"])
async def test_a_stream_that_breaks_before_it_says_anything_is_made_good(
    start: StartGateway, llm: Scripted, spare: Scripted, begun: bytes
):
    gateway = await two_llms(start, llm, spare)
    llm.says(Reply(raw=begun, then="abort"))
    spare.says("Cold.")
    status, headers, raw = await gateway.post("/chat/completions", LARGE | {"stream": True})
    assert (status, raw.count(b"[DONE]")) == (200, 1)
    assert await calls_of(gateway, headers) == [
        ("large-server", "lost", True),
        ("spare-server", "ok", False),
    ]


async def test_after_the_first_byte_nobody_else_is_asked(start: StartGateway, llm: Scripted, spare: Scripted):
    gateway = await two_llms(start, llm, spare)
    llm.says(Reply("one two three four", cut_at=2))
    _, headers, raw = await gateway.post("/chat/completions", LARGE | {"stream": True})
    assert b'"code":"upstream_lost"' in raw
    assert spare.requests == []
    assert await calls_of(gateway, headers) == [("large-server", "lost", False)]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a_held_draft_that_breaks_off_is_drafted_anew_by_another(
    start: StartGateway, slm: Scripted, spare: Scripted, llm: Scripted, stream: bool
):
    gateway = await two_slms(start, slm, spare, llm)
    slm.says(Reply("one two three four", logprobs=-0.9, cut_at=3))
    spare.says(Reply("It is cold.", logprobs=-0.01))
    status, headers, raw = await gateway.post("/chat/completions", ASK | {"stream": stream})
    assert (status, b"two" in raw, b"cold" in raw) == (200, False, True)
    assert (headers["x-smallfirst-route"], llm.requests) == ("slm", [])
    assert await calls_of(gateway, headers) == [("small-server", "lost", True), ("spare-server", "ok", False)]


async def test_a_committed_draft_that_breaks_off_is_continued_by_another(
    start: StartGateway, slm: Scripted, spare: Scripted, llm: Scripted
):
    gateway = await two_slms(start, slm, spare, llm)
    slm.says(Reply("one two three four five six seven eight nine", cut_at=8), Reply(status=500))
    spare.says(Reply(" nine"))
    _, headers, _ = await gateway.post("/chat/completions", ASK | {"stream": True})
    assert spare.requests[0]["messages"][-1] == {
        "role": "assistant",
        "content": "one two three four five six seven eight",
    }
    assert await calls_of(gateway, headers) == [
        ("small-server", "lost", False),
        ("small-server", "error", True),
        ("spare-server", "ok", False),
    ]


async def test_a_begun_answer_is_not_answered_anew_by_a_server_that_continues_none(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    anew = upstream(slm, "slm", capabilities={"prefill": False})
    gateway = await start(settings_of(anew, upstream(llm, "llm")), [simple_policy()])
    slm.says(Reply("one two three four five six seven eight nine", cut_at=8), Reply("one two"))
    _, headers, raw = await gateway.post("/chat/completions", ASK | {"stream": True})
    assert b'"code":"upstream_lost"' in raw
    assert len(slm.requests) == 1
    outcomes = [outcome for _, outcome, _ in await calls_of(gateway, headers)]
    assert outcomes == ["lost", "incapable", "incapable"]


async def test_an_upstreams_complaint_about_the_request_is_not_put_to_another(
    start: StartGateway, llm: Scripted, spare: Scripted
):
    gateway = await two_llms(start, llm, spare)
    llm.says(Reply(status=422))
    status, headers, _ = await gateway.post("/chat/completions", LARGE)
    assert (status, spare.requests) == (422, [])
    assert await calls_of(gateway, headers) == [("large-server", "rejected", False)]


@pytest.mark.parametrize(("second", "cured"), [(8192, True), (2048, False), (None, False)])
async def test_a_prompt_too_long_is_put_to_a_larger_context_alone(
    start: StartGateway, llm: Scripted, spare: Scripted, second: int | None, cured: bool
):
    first = upstream(llm, "llm", context=2048)
    more = upstream(spare, "llm", model="large", priority=1, context=second)
    gateway = await start(settings_of(first, more))
    llm.says(Reply(status=400, body=CONTEXT))
    status, headers, _ = await gateway.post("/chat/completions", LARGE)
    assert (status, len(spare.requests)) == ((200, 1) if cured else (400, 0))
    assert (await calls_of(gateway, headers))[0] == ("large-server", "context", cured)


async def test_where_all_fail_the_plan_hears_of_it_once_and_the_message_names_them_all(
    start: StartGateway, slm: Scripted, llm: Scripted, spare: Scripted
):
    tier = upstream(llm, "llm"), upstream(spare, "llm", priority=1)
    gateway = await start(settings_of(upstream(slm, "slm"), *tier), [simple_policy()])
    slm.says(Reply("Maybe blue?", logprobs=-1.5))
    llm.says(Reply(status=500))
    spare.says(Reply(status=503))
    _, headers, raw = await gateway.post("/chat/completions", ASK)
    assert b"Maybe" in raw
    assert headers["x-smallfirst-reason"] == "no_llm"
    assert await calls_of(gateway, headers) == [
        ("small-server", "ok", False),
        ("large-server", "error", True),
        ("spare-server", "overloaded", False),
    ]
    slm.says(Reply(status=500))
    status, _, raw = await gateway.post("/chat/completions", ASK | {"model": "spare"})
    assert (status, json.loads(raw)["error"]["message"]) == (503, "spare-server answered 503: scripted 503")
    status, _, raw = await gateway.post("/chat/completions", ASK)
    said = "; then ".join(
        f"{name} answered {code}: scripted {code}"
        for name, code in (("small-server", 500), ("large-server", 500), ("spare-server", 503))
    )
    assert (status, json.loads(raw)["error"]["message"]) == (502, said)


@pytest.mark.parametrize(("calls", "route"), [(8, "slm"), (12, "llm")])
async def test_upstreams_are_tried_until_the_exchange_has_made_its_calls(
    start: StartGateway, slm: Scripted, llm: Scripted, spare: Scripted, calls: int, route: str
):
    """Those that another upstream made good count too."""
    many = [upstream(llm, "llm", name=f"large-{number}") for number in range(10)]
    last = upstream(spare, "llm", model="large", priority=1)
    policy = simple_policy().replace(ceilings=Ceilings(calls=calls))
    gateway = await start(settings_of(upstream(slm, "slm"), *many, last), [policy])
    slm.says(Reply("Maybe blue?", logprobs=-1.5))
    llm.says(Reply(status=500))
    _, headers, _ = await gateway.post("/chat/completions", ASK)
    assert headers["x-smallfirst-route"] == route
    made = await calls_of(gateway, headers)
    small, *failed, (name, outcome, _) = made
    assert (small, len(failed)) == (("small-server", "ok", False), calls - 1 if route == "slm" else 10)
    assert {(outcome, retried) for _, outcome, retried in failed} == {("error", True)}
    assert (name, outcome) == (("", "ceiling") if route == "slm" else ("spare-server", "ok"))


async def test_what_a_failed_call_cost_counts_at_its_own_upstreams_price(
    start: StartGateway, llm: Scripted, spare: Scripted
):
    gateway = await two_llms(start, llm, spare)
    llm.says(Reply(body="<html>"))
    spare.says("Cold.")
    _, headers, _ = await gateway.post("/chat/completions", LARGE)
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    garbage, better = exchange["calls"]
    assert garbage["cost_usd"] == pytest.approx(garbage["prompt_tokens"] * PRICE["input"] / 1e6)
    assert garbage["prompt_tokens"] > 0
    assert better["cost_usd"] == pytest.approx((10 * 2.0 + 1 * 8.0) / 1e6)
    assert exchange["cost_usd"] == pytest.approx(garbage["cost_usd"] + better["cost_usd"])
    # What the LLM alone would have cost is told at the price of the one that is asked first.
    assert exchange["llm_alone_usd"] == pytest.approx((10 * 1.0 + 1 * 4.0) / 1e6)


async def test_a_client_that_leaves_while_another_writes_cancels_that_one(
    start: StartGateway, llm: Scripted, spare: Scripted
):
    gateway = await two_llms(start, llm, spare)
    llm.says(Reply(status=500))
    spare.says(Reply(gate=asyncio.Event()))
    asking = asyncio.create_task(gateway.post("/chat/completions", LARGE))
    await spare.arrived.wait()
    asking.cancel()
    await soon(spare.gone.wait())


async def test_the_first_is_not_asked_again_while_another_is_there(
    start: StartGateway, llm: Scripted, spare: Scripted
):
    limits = {"retries": 2}
    first = upstream(llm, "llm", limits=limits)
    gateway = await start(
        settings_of(first, upstream(spare, "llm", model="large", priority=1, limits=limits))
    )
    llm.says(Reply(status=503))
    spare.says(Reply(status=503, headers={"Retry-After": "0"}), Reply("Cold."))
    status, _, _ = await gateway.post("/chat/completions", LARGE)
    assert (status, len(llm.requests), len(spare.requests)) == (200, 1, 2)


async def test_equals_share_the_requests(start: StartGateway, llm: Scripted, spare: Scripted):
    gateway = await two_llms(start, llm, spare, priority=0, weight=2)
    served: Counter[str] = Counter()
    for _ in range(9):
        _, headers, _ = await gateway.post("/chat/completions", LARGE)
        served[(await calls_of(gateway, headers))[0][0]] += 1
    assert served == {"large-server": 3, "spare-server": 6}


async def test_a_busy_upstream_is_passed_over(start: StartGateway, llm: Scripted, spare: Scripted):
    gateway = await two_llms(start, llm, spare, priority=0)
    gate = asyncio.Event()
    llm.says(Reply("Cold.", gate=gate))
    spare.says(Reply("Cold.", gate=gate))
    asked = [asyncio.create_task(gateway.post("/chat/completions", LARGE))]
    busy, other = (llm, spare) if await first_of(llm, spare) is llm else (spare, llm)
    other.says("Cold.")
    for _ in range(3):
        assert (await gateway.post("/chat/completions", LARGE))[0] == 200
    assert (len(busy.requests), len(other.requests)) == (1, 3)
    gate.set()
    await asyncio.gather(*asked)


async def first_of(*servers: Scripted) -> Scripted:
    waits = {asyncio.create_task(server.arrived.wait()): server for server in servers}
    done, rest = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in rest:
        wait.cancel()
    return waits[done.pop()]


async def test_overflow_goes_to_the_next_priority_where_the_queue_is_full(
    start: StartGateway, llm: Scripted, spare: Scripted
):
    first = upstream(llm, "llm", limits={"in_flight": 1, "queued": 0, "retries": 0})
    gateway = await start(settings_of(first, upstream(spare, "llm", model="large", priority=1)))
    gate = asyncio.Event()
    llm.says(Reply("Cold.", gate=gate))
    held = asyncio.create_task(gateway.post("/chat/completions", LARGE))
    await llm.arrived.wait()
    _, headers, _ = await gateway.post("/chat/completions", LARGE)
    assert await calls_of(gateway, headers) == [("large-server", "busy", True), ("spare-server", "ok", False)]
    gate.set()
    await held


async def test_one_whose_breaker_rests_is_not_even_tried(start: StartGateway, llm: Scripted, spare: Scripted):
    gateway = await two_llms(start, llm, spare)
    llm.says(Reply(status=500))
    for _ in range(FAILURES_TO_OPEN):
        await gateway.post("/chat/completions", LARGE)
    _, headers, _ = await gateway.post("/chat/completions", LARGE)
    assert await calls_of(gateway, headers) == [("spare-server", "ok", False)]
    status, ready = await gateway.get("/health/ready")
    assert (status, ready["upstreams"]) == (
        200,
        {"large-server": {"tier": "llm", "up": False}, "spare-server": {"tier": "llm", "up": True}},
    )
    async with gateway.http.get(f"{gateway.root}/metrics") as response:
        exposed = await response.text()
    assert 'smallfirst_upstream_up{tier="llm",upstream="large-server"} 0.0' in exposed
    assert 'smallfirst_upstream_up{tier="llm",upstream="spare-server"} 1.0' in exposed


async def test_a_tier_is_there_while_any_of_it_is(
    start: StartGateway, slm: Scripted, llm: Scripted, spare: Scripted
):
    tier = upstream(llm, "llm"), upstream(spare, "llm", priority=1)
    gateway = await start(settings_of(upstream(slm, "slm"), *tier), [simple_policy()])
    slm.says(Reply("Maybe blue?", logprobs=-1.5))
    for down, route in ((0, "llm"), (1, "slm")):
        gateway.app.pools["llm"].upstreams[down].record_probe(False)
        _, headers, _ = await gateway.post("/chat/completions", ASK)
        assert headers["x-smallfirst-route"] == route
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    assert [call["tier"] for call in exchange["calls"]] == ["slm"]
