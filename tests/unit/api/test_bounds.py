"""What bounds an exchange: heartbeats while it is silent, ceilings, privacy."""

import asyncio
import json

import pytest
from support.gateways import StartGateway, settings_of, simple_policy, upstream
from support.scripted_server import Reply, Scripted
from support.strategy_requests import (
    ASK,
    HOPELESS,
    SENTENCE,
    SURE,
    UNSURE,
    figures_of,
    hedge,
    policy,
    text_of,
)
from support.waiting import soon

from policies.schema.policy import Ceilings
from routers.strategies.direct import Direct

# --- heartbeats


async def test_a_held_stream_is_kept_alive_by_comments_and_may_still_escalate(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    settings = settings_of(upstream(slm, "slm"), upstream(llm, "llm"), listen={"heartbeat_after": 0.03})
    gateway = await start(settings, [simple_policy()])
    gate = asyncio.Event()
    slm.says(Reply(SENTENCE, logprobs=UNSURE, gate=gate, gate_at=3))
    async with gateway.http.post(f"{gateway.url}/chat/completions", json=ASK | {"stream": True}) as response:
        assert response.headers["x-smallfirst-policy"] == "test"
        assert "x-smallfirst-route" not in response.headers
        seen = b""
        while seen.count(b": waiting\n\n") < 3:
            seen += await response.content.readany()
        assert b"data:" not in seen
        gate.set()
        raw = await response.read()
    assert text_of(raw) == "It is cold."
    assert figures_of(raw)["route"] == "llm"


async def test_an_error_after_a_heartbeat_is_an_event(start: StartGateway, slm: Scripted, llm: Scripted):
    settings = settings_of(upstream(slm, "slm"), upstream(llm, "llm"), listen={"heartbeat_after": 0.03})
    gateway = await start(settings, [simple_policy(give_up=None)])
    gate = asyncio.Event()
    slm.says(Reply("Never.", gate=gate, cut_at=0), Reply(status=500))
    llm.says(Reply(status=500))
    async with gateway.http.post(f"{gateway.url}/chat/completions", json=ASK | {"stream": True}) as response:
        assert (await response.content.readany()).startswith(b": waiting")
        gate.set()
        raw = await response.read()
    events = [json.loads(line[6:]) for line in raw.split(b"\n") if line.startswith(b"data: ")]
    assert [set(event) for event in events] == [{"error"}]


# --- ceilings and privacy


async def test_the_ceiling_on_time_ends_a_call_and_the_exchange(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    limited = simple_policy().replace(ceilings=Ceilings(seconds=0.3))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [limited])
    slm.says(Reply(SENTENCE, gate=asyncio.Event(), gate_at=2))
    status, _, raw = await gateway.post("/chat/completions", ASK)
    assert (status, json.loads(raw)["error"]["code"]) == (403, "ceiling_reached")
    await soon(slm.gone.wait())
    assert llm.requests == []


@pytest.mark.parametrize("stream", [True, False])
async def test_the_ceiling_on_time_ends_both_legs_of_a_hedge_and_the_exchange(
    start: StartGateway, slm: Scripted, llm: Scripted, stream: bool
):
    limited = hedge().replace(ceilings=Ceilings(seconds=0.3))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [limited])
    slm.says(Reply(SENTENCE, gate=asyncio.Event(), gate_at=2))
    llm.says(Reply("Never sent.", gate=asyncio.Event()))
    status, headers, raw = await gateway.post("/chat/completions", ASK | {"stream": stream})
    error = json.loads(raw)["error"]
    assert (status, error["code"]) == (403, "ceiling_reached")
    assert error["message"] == "out of time; then the 0.3 s of this exchange are over"
    await soon(asyncio.gather(slm.gone.wait(), llm.gone.wait()))
    assert (len(slm.requests), len(llm.requests)) == (1, 1)
    found = await gateway.exchange(headers["x-smallfirst-id"])
    assert [(call["tier"], call["upstream"], call["outcome"]) for call in found["calls"]] == [
        ("slm", "small-server", "ceiling"),
        ("llm", "large-server", "ceiling"),
        ("slm", "", "ceiling"),  # the plan asked on, and admission refused each call
    ]
    assert found["calls"][2]["cost_usd"] == 0.0


async def test_a_hedged_answer_that_flows_when_the_time_is_over_ends_in_an_error(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    limited = hedge().replace(ceilings=Ceilings(seconds=0.2))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [limited])
    slm.says(Reply(SENTENCE, logprobs=SURE, gate=asyncio.Event(), gate_at=6))
    llm.says(Reply("Never sent.", gate=asyncio.Event()))
    _, headers, raw = await gateway.post("/chat/completions", ASK | {"stream": True})
    assert b"Ice" in raw
    assert b'"code":"ceiling_reached"' in raw
    found = await gateway.exchange(headers["x-smallfirst-id"])
    assert [(call["upstream"], call["outcome"]) for call in found["calls"]] == [
        ("small-server", "ceiling"),
        ("large-server", "outrun"),
        ("", "ceiling"),
    ]


async def test_the_ceiling_on_tokens_is_what_the_calls_are_allowed(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    limited = simple_policy().replace(ceilings=Ceilings(tokens=20))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [limited])
    slm.says(Reply(SENTENCE, logprobs=UNSURE))
    await gateway.post("/chat/completions", ASK | {"max_tokens": 100})
    assert slm.requests[0]["max_tokens"] == 20
    assert llm.requests[0]["max_tokens"] == 20 - len(SENTENCE.split())


async def test_dollars_that_would_not_pay_the_prompt_leave_the_draft(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    limited = simple_policy().replace(ceilings=Ceilings(usd=1e-6))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [limited])
    slm.says(Reply(SENTENCE, logprobs=UNSURE))
    _, headers, _ = await gateway.post("/chat/completions", ASK)
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("slm", "no_llm")
    assert llm.requests == []


@pytest.mark.parametrize("whose", ["the request's", "the policy's"])
async def test_what_is_private_never_reaches_a_cloud(
    start: StartGateway, slm: Scripted, llm: Scripted, whose: str
):
    private = simple_policy().replace(private=whose == "the policy's")
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm", cloud=True)), [private])
    slm.says(Reply(SENTENCE, logprobs=HOPELESS), Reply(SENTENCE, logprobs=HOPELESS))
    own = {} if private.private else {"smallfirst": {"private": True}}
    for stream in (True, False):
        status, headers, _ = await gateway.post("/chat/completions", ASK | own | {"stream": stream})
        assert status == 200
        found = await gateway.exchange(headers["x-smallfirst-id"])
        assert (found["route"], found["reason"]) == ("slm", "no_llm")
    assert llm.requests == []


@pytest.mark.parametrize("stream", [True, False])
async def test_what_is_private_waits_for_no_cloud_of_the_same_tier(
    start: StartGateway, slm: Scripted, llm: Scripted, spare: Scripted, stream: bool
):
    """One at home that is down is asked, where a cloud beside it is up and could do more."""
    tier = (
        upstream(llm, "llm", cloud=True),
        upstream(spare, "llm", priority=1, cloud=False, capabilities={"vision": False}),
    )
    alone = policy(Direct(tier="llm", fallback=False)).replace(private=True)
    gateway = await start(settings_of(upstream(slm, "slm"), *tier), [alone])
    gateway.app.pools["llm"].upstreams[1].record_probe(False)
    status, _, raw = await gateway.post("/chat/completions", ASK | {"stream": stream})
    assert (status, len(spare.requests)) == (200, 1), raw
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    status, _, raw = await gateway.post("/chat/completions", ASK | {"messages": image, "stream": stream})
    assert (status, json.loads(raw)["error"]["code"]) == (400, "not_supported")
    assert llm.requests == []


@pytest.mark.parametrize("at_home", [True, False])
async def test_private_embeddings_come_from_home_or_from_nobody(
    start: StartGateway, slm: Scripted, llm: Scripted, spare: Scripted, at_home: bool
):
    tier = (
        upstream(slm, "slm", capabilities={"embeddings": False}),
        upstream(llm, "llm", cloud=True),
        upstream(spare, "llm", priority=1, cloud=not at_home),
    )
    gateway = await start(settings_of(*tier), [simple_policy().replace(private=True)])
    status, _, raw = await gateway.post("/embeddings", {"model": "test", "input": "ice"})
    assert (status, len(llm.requests), len(spare.requests)) == ((200, 0, 1) if at_home else (403, 0, 0)), raw
