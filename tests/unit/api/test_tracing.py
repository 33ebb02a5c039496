"""Trace headers reach every upstream that is asked for a request, and no other; every answer has an `x-request-id`."""

import asyncio
from typing import Any

import pytest
from support.gateways import Gateway, StartGateway, settings_of, simple_policy, upstream
from support.scripted_server import Reply, Scripted
from support.waiting import until

from policies.schema.evaluate import Evaluate

TRACE = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
    "x-request-id": "client-7",
}
ASK = {"model": "test", "messages": [{"role": "user", "content": "What is the opposite of hot?"}]}
BODIES: dict[str, dict[str, Any]] = {
    "/chat/completions": ASK,
    "/completions": {"model": "test", "prompt": "Hot is the opposite of"},
    "/embeddings": {"model": "test", "input": "hot"},
    "/responses": {"model": "test", "input": "Hi"},
    "/evaluate": {"input": "Is ice cold?", "output": "Yes.", "evaluators": ["verify"], "tier": "llm"},
}


async def post(gateway: Gateway, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
    async with gateway.http.post(f"{gateway.url}{path}", json=body, headers=headers) as response:
        await response.read()
        return response


def traces_of(server: Scripted) -> list[dict[str, str]]:
    """The trace headers of each request that a server got."""
    return [
        {name.lower(): value for name, value in headers.items() if name.lower() in TRACE}
        for headers in server.headers
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_every_call_of_a_request_carries_them(
    gateway: Gateway, slm: Scripted, llm: Scripted, stream: bool
):
    slm.says(Reply("Maybe blue?", logprobs=-1.5))
    response = await post(gateway, "/chat/completions", ASK | {"stream": stream}, TRACE)
    assert response.headers.getall("x-request-id") == ["client-7"]
    assert traces_of(slm) == traces_of(llm) == [TRACE]


@pytest.mark.parametrize("path", BODIES)
async def test_every_endpoint_passes_them_on_and_answers_with_the_id(
    gateway: Gateway, slm: Scripted, llm: Scripted, path: str
):
    response = await post(gateway, path, BODIES[path], TRACE)
    assert response.headers.getall("x-request-id") == ["client-7"]
    traces = traces_of(slm) + traces_of(llm)
    assert traces
    assert all(trace == TRACE for trace in traces)


async def test_without_them_nothing_is_made_up_for_upstreams_and_the_answer_has_the_exchanges_id(
    gateway: Gateway, slm: Scripted
):
    await post(gateway, "/chat/completions", ASK, TRACE)
    for stream in (False, True):
        response = await post(gateway, "/chat/completions", ASK | {"stream": stream})
        assert response.headers["x-request-id"] == response.headers["x-smallfirst-id"]
    assert traces_of(slm) == [TRACE, {}, {}]


async def test_requests_at_the_same_time_keep_their_own(gateway: Gateway, slm: Scripted):
    ids = [f"client-{number}" for number in range(20)]
    answers = [post(gateway, "/chat/completions", ASK, {"x-request-id": name}) for name in ids]
    responses = await asyncio.gather(*answers)
    assert [response.headers["x-request-id"] for response in responses] == ids
    assert sorted(trace["x-request-id"] for trace in traces_of(slm)) == sorted(ids)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/chat/completions", 400),
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/responses", 400),
        ("GET", "/v1/models", 200),
        ("GET", "/v1/models/nobody", 404),
        ("GET", "/nowhere", 404),
        ("GET", "/health/live", 200),
    ],
)
async def test_every_answer_has_one(gateway: Gateway, method: str, path: str, status: int):
    found = []
    for headers in ({}, {}, {"x-request-id": "client-7"}):
        json = {} if method == "POST" else None
        async with gateway.http.request(method, gateway.root + path, json=json, headers=headers) as response:
            assert response.status == status
            found += response.headers.getall("x-request-id")
    first, second, own = found
    assert first != second
    assert own == "client-7"


async def test_a_refused_page_gets_one_too_and_a_listed_page_may_read_it(start: StartGateway, slm: Scripted):
    listen = {"origins": ["https://app.example.com"]}
    gateway = await start(settings_of(upstream(slm, "slm"), listen=listen), [simple_policy()])
    for origin, status in (("https://evil.example.com", 403), ("https://app.example.com", 200)):
        response = await post(gateway, "/chat/completions", ASK, TRACE | {"origin": origin})
        assert response.status == status
        assert response.headers.getall("x-request-id") == ["client-7"]
    assert "x-request-id" in response.headers["access-control-expose-headers"].split(", ")


@pytest.mark.parametrize("value", ["é", "x" * 513, "a\tb"], ids=["not ascii", "long", "control"])
async def test_a_value_that_no_server_should_log_is_left_out(gateway: Gateway, slm: Scripted, value: str):
    response = await post(gateway, "/chat/completions", ASK, TRACE | {"x-request-id": value})
    assert response.headers["x-request-id"] == response.headers["x-smallfirst-id"]
    assert traces_of(slm) == [{name: TRACE[name] for name in ("traceparent", "tracestate")}]


async def test_a_configured_header_takes_precedence(start: StartGateway, llm: Scripted):
    gateway = await start(settings_of(upstream(llm, "llm", headers={"X-Request-Id": "ours"})))
    await post(gateway, "/chat/completions", ASK | {"model": "large"}, TRACE)
    assert traces_of(llm) == [TRACE | {"x-request-id": "ours"}]


async def test_a_background_evaluation_carries_no_requests_headers(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    policy = simple_policy().replace(evaluate=Evaluate(share=1, evaluators=("verify",)))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [policy])
    await post(gateway, "/chat/completions", ASK, TRACE)
    await until(lambda: len(slm.requests) + len(llm.requests) > 1)
    assert (traces_of(slm) + traces_of(llm))[:2] == [TRACE, {}]
