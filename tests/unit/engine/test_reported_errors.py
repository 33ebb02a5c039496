"""An error inside a 200 is an error: it acts like the same error with a status of its own."""

import asyncio
import json
from typing import Any

import pytest
from support.gateways import Gateway, StartGateway, settings_of, upstream
from support.scripted_server import Reply, Scripted
from support.strategy_requests import SENTENCE, hedge, policy
from support.upstream_scripts import DONE, ERRORS, REPORTS, chunk_of, openai_script
from support.waiting import soon, until

from gateway.upstreams.resilience.breaker import FAILURES_TO_OPEN
from policies.schema.policy import Ceilings
from routers.strategies.direct import Direct

ASK: dict[str, Any] = {"model": "test", "messages": [{"role": "user", "content": "Is ice cold?"}]}
LARGE = ASK | {"model": "large"}
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
ROLE = b"data: " + json.dumps(chunk_of({"role": "assistant", "content": ""})).encode()
WORD = b"data: " + json.dumps(chunk_of({"content": "Ice"})).encode()
BUSY = {"code": 429, "message": "Slow down."}


def stream_of(*blocks: bytes) -> bytes:
    return b"".join(block + b"\n\n" for block in blocks)


def reported(error: dict[str, Any], report: Any = REPORTS[0], **more: Any) -> Reply:
    """The error after a role, as servers that fail before their first word send it."""
    return Reply(raw=stream_of(ROLE, report(error), DONE), **more)


async def calls_of(gateway: Gateway, headers: dict[str, str]) -> list[tuple[str, str, bool]]:
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    return [(call["upstream"], call["outcome"], call["retried"]) for call in exchange["calls"]]


@BOTH
@pytest.mark.parametrize(
    ("error", "status"), [(error, status) for error, status, _ in ERRORS if status], ids=str
)
async def test_a_reported_error_acts_like_one_with_a_status(
    gateway: Gateway, llm: Scripted, error: dict[str, Any], status: int, stream: bool
):
    seen = []
    large = gateway.upstream("llm")
    twin = Reply(status=status, body={"error": error})
    for reply in (twin, *[reported(error, report) for report in REPORTS]):
        large.breaker.record_success()
        llm.says(reply)
        code, headers, raw = await gateway.post("/chat/completions", LARGE | {"stream": stream})
        seen.append((code, json.loads(raw), headers.get("retry-after"), large.breaker._failures))
    assert seen == [seen[0]] * len(seen)


@BOTH
async def test_an_error_as_json_is_one_too(gateway: Gateway, llm: Scripted, stream: bool):
    llm.says(Reply(body={"error": {"code": 400, "message": "No images."}}))
    status, _, raw = await gateway.post("/chat/completions", LARGE | {"stream": stream})
    assert (status, json.loads(raw)["error"]["message"]) == (400, "No images.")


@BOTH
@pytest.mark.parametrize("at", [0, 3], ids=["at once", "after some words"])
async def test_a_finished_draft_is_served_if_the_large_model_reports_an_error(
    gateway: Gateway, slm: Scripted, llm: Scripted, stream: bool, at: int
):
    slm.says(Reply("a b c", logprobs=-1.5))
    words = openai_script(["One", " two", " three"]).events[: at + 1]
    blocks = [b"data: " + json.dumps(word).encode() for word in words]
    llm.says(Reply(raw=stream_of(*blocks, REPORTS[1]({"code": 502, "message": "gone"}), DONE)))
    status, headers, raw = await gateway.post("/chat/completions", ASK | {"stream": stream})
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    assert (status, exchange["route"], exchange["reason"]) == (200, "slm", "no_llm")
    assert exchange["calls"][-1]["outcome"] == "overloaded"
    assert b"two" not in raw


@BOTH
async def test_another_upstream_answers_after_a_reported_error(
    start: StartGateway, llm: Scripted, spare: Scripted, stream: bool
):
    second = upstream(spare, "llm", model="large", priority=1)
    gateway = await start(settings_of(upstream(llm, "llm"), second))
    llm.says(reported(BUSY))
    spare.says("Cold.")
    status, headers, raw = await gateway.post("/chat/completions", LARGE | {"stream": stream})
    assert (status, b"Cold." in raw) == (200, True)
    assert await calls_of(gateway, headers) == [
        ("large-server", "rate_limited", True),
        ("spare-server", "ok", False),
    ]


@BOTH
async def test_a_reported_error_is_repeated_like_one_with_a_status(
    start: StartGateway, llm: Scripted, stream: bool
):
    """Both kinds together are repeated as often as the limits say."""
    at_once = {"headers": {"Retry-After": "0"}}
    gateway = await start(settings_of(upstream(llm, "llm", limits={"retries": 2})))
    llm.says(reported(BUSY, **at_once), Reply(status=429, **at_once), Reply("Cold."))
    status, headers, raw = await gateway.post("/chat/completions", LARGE | {"stream": stream})
    assert (status, b"Cold." in raw) == (200, True)
    assert await calls_of(gateway, headers) == [
        ("large-server", "rate_limited", True),
        ("large-server", "ok", False),
    ]
    llm.says(reported(BUSY, **at_once))
    llm.requests.clear()
    status, _, _ = await gateway.post("/chat/completions", LARGE | {"stream": stream})
    assert (status, len(llm.requests)) == (429, 3)


@BOTH
async def test_a_race_may_be_lost_while_a_repeat_waits(
    start: StartGateway, slm: Scripted, llm: Scripted, stream: bool
):
    large = upstream(llm, "llm", limits={"retries": 2})
    gateway = await start(settings_of(upstream(slm, "slm"), large), [hedge()])
    gate = asyncio.Event()
    slm.says(Reply(SENTENCE, gate=gate))
    llm.says(reported(BUSY, headers={"Retry-After": "4"}))
    answer = asyncio.create_task(gateway.post("/chat/completions", ASK | {"stream": stream}))
    await until(lambda: gateway.upstream("llm").is_backing_off)
    gate.set()
    status, headers, _ = await soon(answer, 3)
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    assert (status, exchange["route"], len(llm.requests)) == (200, "slm", 1)


@BOTH
async def test_the_time_of_an_exchange_may_end_while_a_repeat_waits(
    start: StartGateway, llm: Scripted, stream: bool
):
    large = upstream(llm, "llm", limits={"retries": 2})
    short = policy(Direct(tier="llm"), ceilings=Ceilings(seconds=0.2))
    gateway = await start(settings_of(large), [short])
    llm.says(reported(BUSY, headers={"Retry-After": "4"}))
    status, headers, raw = await soon(gateway.post("/chat/completions", ASK | {"stream": stream}), 3)
    assert (status, json.loads(raw)["error"]["code"]) == (403, "ceiling_reached")
    assert await calls_of(gateway, headers) == [("large-server", "ceiling", False)]


async def test_a_client_may_leave_while_a_repeat_waits(start: StartGateway, llm: Scripted):
    gateway = await start(settings_of(upstream(llm, "llm", limits={"retries": 2})))
    llm.says(reported(BUSY, headers={"Retry-After": "4"}))
    answer = asyncio.create_task(gateway.post("/chat/completions", LARGE))
    await until(lambda: gateway.upstream("llm").is_backing_off)
    answer.cancel()
    (name,) = await until(gateway.app.exchanges.ids)
    exchange = await gateway.exchange(name)
    assert [call["outcome"] for call in exchange["calls"]] == ["cancelled"]


async def test_an_answer_that_has_begun_is_not_repeated(start: StartGateway, llm: Scripted):
    gateway = await start(settings_of(upstream(llm, "llm", limits={"retries": 2})))
    llm.says(Reply(raw=stream_of(ROLE, WORD, REPORTS[0](BUSY)), headers={"Retry-After": "0"}))
    status, _, _ = await gateway.post("/chat/completions", LARGE | {"stream": True})
    assert (status, len(llm.requests)) == (429, 1)


async def test_a_retry_after_of_a_reported_error_is_obeyed(
    start: StartGateway, llm: Scripted, spare: Scripted
):
    second = upstream(spare, "llm", model="large")
    gateway = await start(settings_of(upstream(llm, "llm"), second))
    llm.says(reported(BUSY, headers={"Retry-After": "30"}))
    spare.says(reported(BUSY, headers={"Retry-After": "30"}))
    status, headers, _ = await gateway.post("/chat/completions", LARGE)
    assert (status, headers["retry-after"]) == (429, "30")
    assert gateway.upstream("llm").is_backing_off


async def test_an_error_after_the_first_words_is_an_event(gateway: Gateway, llm: Scripted):
    """The client has the words, so nobody else may answer."""
    gate = asyncio.Event()
    words = stream_of(ROLE, WORD, WORD, WORD)
    llm.says(Reply(raw=words, gate=gate, rest=stream_of(REPORTS[0]({"code": 502, "message": "gone"}))))
    seen = ""
    async with gateway.http.post(f"{gateway.url}/chat/completions", json=LARGE | {"stream": True}) as stream:
        async for line in stream.content:
            seen += line.decode()
            if seen.count("Ice") == 3:
                gate.set()
    *_, last = [line for line in seen.split("\n") if line]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "upstream_overloaded"
    assert seen.count('"error"') == 1
    (name,) = await until(gateway.app.exchanges.ids)
    exchange = await gateway.exchange(name)
    assert (exchange["error"], exchange["calls"][0]["outcome"]) == ("upstream_overloaded", "overloaded")


@pytest.mark.parametrize(
    "error",
    [
        {"message": "tools param requires --jinja flag", "type": "server_error", "code": 500},
        {"message": "Unsupported tool type: custom"},
        {"message": "'response_format' is no dict"},
        {"message": "bad value", "param": "temperature"},
        {"message": "bad value", "type": "BadRequestError"},
        {"message": "cannot read messages[0].content"},
    ],
    ids=lambda error: error["message"],
)
@pytest.mark.parametrize("is_reported", [False, True], ids=["500", "inside a 200"])
async def test_bad_requests_of_one_client_do_not_send_everybody_to_the_large_model(
    gateway: Gateway, slm: Scripted, error: dict[str, Any], is_reported: bool
):
    body = ASK | {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}
    body |= {"response_format": {"type": "text"}}
    inside = reported({"code": 500, **error})
    slm.says(inside if is_reported else Reply(status=500, body={"error": error}))
    for _ in range(FAILURES_TO_OPEN):
        await gateway.post("/chat/completions", body)
    assert len(slm.requests) == FAILURES_TO_OPEN
    assert not gateway.upstream("slm").breaker.is_open


@pytest.mark.parametrize(
    "error", [{"message": "the model crashed"}, {"message": "CUDA error: out of memory"}, {}]
)
async def test_a_fault_of_the_server_opens_its_breaker(gateway: Gateway, slm: Scripted, error: Any):
    slm.says(Reply(status=500, body={"error": error}))
    for _ in range(FAILURES_TO_OPEN):
        await gateway.post("/chat/completions", ASK)
    assert gateway.upstream("slm").breaker.is_open


async def test_a_secret_in_a_reported_error_is_masked(start: StartGateway, llm: Scripted):
    gateway = await start(settings_of(upstream(llm, "llm", key="sk-secret")))
    llm.says(reported({"message": "bad key sk-secret", "code": 500}))
    _, _, raw = await gateway.post("/chat/completions", LARGE)
    assert b"bad key ***" in raw
