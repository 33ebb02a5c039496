"""Whatever goes wrong, the client gets OpenAI's error shape, a code to act on, and no secret."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.gateways import (
    Gateway,
    StartGateway,
    gateway_of,
    settings_of,
    simple_calibrator,
    simple_policy,
    upstream,
)
from support.raw_server import listening, request_of
from support.scripted_server import Reply, Scripted

from gateway.wire.sse import MAX_EVENT
from policies.records.reader import read_records

ASK = {"model": "test", "messages": [{"role": "user", "content": "What is the opposite of hot?"}]}
LARGE = ASK | {"model": "large"}
KEY, HEADER, QUERY = "sk-recognisable-key", "recognisable-header", "recognisable-query"


def error_of(raw: bytes) -> dict[str, Any]:
    """The error, having checked its shape."""
    body = json.loads(raw)
    assert set(body) == {"error"}
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["code"], str)
    return error


async def refused(gateway: Gateway, path: str, body: Any) -> tuple[int, str, str | None, str]:
    """Status, code, param and message of a request's error."""
    status, headers, raw = await gateway.post(path, body)
    assert headers["content-type"] == "application/json"
    error = error_of(raw)
    return status, error["code"], error["param"], error["message"]


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/embeddings"])
async def test_a_body_that_is_no_json_object_is_refused(gateway: Gateway, path: str):
    for body in (b"", b"{", b'{"a": NaN}', b"\xff", b"[]", b'"text"', b"null", b"[" * 5000):
        status, code, param, message = await refused(gateway, path, body)
        assert (status, code, param) == (400, "invalid_json", None), body
        assert "JSON" in message


async def test_wrong_types_name_the_field_and_what_was_expected(gateway: Gateway, slm: Scripted):
    wrong: dict[str, list[Any]] = {
        "model": [1, ["test"], {}, True],
        "stream": ["yes", 1, {}],
        "stream_options": [True, "x", []],
        "n": ["1", 1.5, True],
        "max_tokens": ["9", 9.5, False],
        "max_completion_tokens": ["9", {}],
        "top_logprobs": ["5", True],
        "logprobs": [1, "yes"],
        "tools": [{}, "x"],
        "messages": [{}, "Hi", 7, []],
    }
    for field, values in wrong.items():
        for value in values:
            found = await refused(gateway, "/chat/completions", ASK | {field: value})
            assert found[:3] == (400, "invalid_value", field), value
            assert found[3].startswith(field)
    for message in ("Hi", None, {}, {"role": 1}, ["user", "Hi"]):
        messages = [ASK["messages"][0], message]
        found = await refused(gateway, "/chat/completions", ASK | {"messages": messages})
        assert found[:3] == (400, "invalid_value", "messages[1]")
    assert slm.requests == []


async def test_required_fields_are_named(gateway: Gateway):
    rows: list[tuple[str, dict[str, Any], str]] = [
        ("/chat/completions", {"messages": ASK["messages"]}, "model"),
        ("/chat/completions", ASK | {"model": None}, "model"),
        ("/chat/completions", ASK | {"model": ""}, "model"),
        ("/chat/completions", {"model": "test"}, "messages"),
        ("/completions", {"prompt": "x"}, "model"),
        ("/completions", {"model": "test"}, "prompt"),
        ("/completions", {"model": "test", "prompt": 7}, "prompt"),
        ("/embeddings", {"input": "x"}, "model"),
        ("/embeddings", {"model": "large"}, "input"),
        ("/embeddings", {"model": "large", "input": {}}, "input"),
    ]
    for path, body, param in rows:
        found = await refused(gateway, path, body)
        assert found[:3] == (400, "missing_required_parameter", param), body
    for value in ("2", True, [5]):
        found = await refused(gateway, "/completions", {"model": "test", "prompt": "x", "logprobs": value})
        assert found[:3] == (400, "invalid_value", "logprobs")
    found = await refused(gateway, "/embeddings", {"model": "large", "input": "x", "stream": True})
    assert found[:3] == (400, "invalid_value", "stream")


async def test_an_unknown_model_is_told_those_that_exist(gateway: Gateway):
    rows = {"model": ASK | {"model": "gpt-9"}, "smallfirst.policy": ASK | {"smallfirst": {"policy": "gpt-9"}}}
    for where, body in rows.items():
        status, code, param, message = await refused(gateway, "/chat/completions", body)
        assert (status, code, param) == (404, "model_not_found", where)
        assert "'gpt-9'" in message
        assert all(name in message for name in ("test", "small", "large"))


async def test_a_policy_that_cannot_be_served_says_why(start: StartGateway, slm: Scripted):
    """Its calibrator is made for another small model than this gateway's."""
    policy = simple_policy(calibrator=simple_calibrator(model="other"))
    gateway = await start(settings_of(upstream(slm, "slm")), [policy])
    status, code, param, message = await refused(gateway, "/chat/completions", ASK)
    assert (status, code, param) == (400, "policy_unavailable", "model")
    assert "calibrator" in message


async def test_the_smallfirst_field_is_checked(gateway: Gateway, slm: Scripted):
    rows: list[tuple[Any, str]] = [
        ({"polcy": "test"}, "smallfirst.polcy"),
        ({"policy": 1}, "smallfirst.policy"),
        ({"override": ["accept"]}, "smallfirst.override"),
        ({"tags": ["a"]}, "smallfirst.tags"),
        ({"tags": {"team": 1}}, "smallfirst.tags.team"),
        ("test", "smallfirst"),
    ]
    for own, param in rows:
        found = await refused(gateway, "/chat/completions", ASK | {"smallfirst": own})
        assert found[:3] == (400, "invalid_value", param)
        assert "known keys: policy, override, context, private, key, tags" in found[3]
    assert slm.requests == []


async def test_a_body_over_the_limit_is_refused_and_one_at_the_limit_is_not(
    start: StartGateway, slm: Scripted
):
    limit = 2000
    gateway = await start(settings_of(upstream(slm, "slm"), listen={"body_limit": limit}))
    bare = json.dumps({"model": "small", "messages": [{"role": "user", "content": "@"}]})
    for size, expected in ((limit, 200), (limit + 1, 413), (900_000, 413)):
        body = bare.replace("@", "x" * (size - len(bare) + 1)).encode()
        assert len(body) == size
        status, _, raw = await gateway.post("/chat/completions", body)
        assert status == expected
        if expected == 413:
            assert error_of(raw)["code"] == "body_too_large"
            assert str(limit) in error_of(raw)["message"]
    assert len(slm.requests) == 1


@pytest.mark.parametrize("model", ["small", "large", "test"])
async def test_an_upstreams_event_over_the_limit_is_garbage(
    gateway: Gateway, slm: Scripted, llm: Scripted, model: str
):
    """Relayed (a model by its name) and followed (the cascade) alike."""
    for server in (slm, llm):
        server.says(Reply(raw=b"data: " + b"x" * MAX_EVENT, then="hang"))
    status, _, raw = await gateway.post("/chat/completions", ASK | {"model": model, "stream": True})
    error = error_of(raw)
    assert (status, error["code"], error["type"]) == (502, "upstream_garbage", "upstream_error")
    assert f"an event is over the limit of {MAX_EVENT} bytes" in error["message"]


async def test_wrong_methods_and_paths_answer_in_json(gateway: Gateway):
    for method, path, status, code in [
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/completions", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "http_error"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("POST", "/v1/chat/completions/more", 404, "not_found"),
        ("GET", "/v1/models/gpt-9", 404, "model_not_found"),
        ("GET", "/v1/exchanges/sf-0", 404, "exchange_not_found"),
    ]:
        async with gateway.http.request(method, f"{gateway.root}{path}") as response:
            assert (response.status, error_of(await response.read())["code"]) == (status, code), path
            if status == 405:
                assert response.headers["Allow"] == ("GET" if code == "http_error" else "POST")


async def test_an_upstreams_complaint_about_the_request_is_passed_on_as_it_is(
    gateway: Gateway, llm: Scripted
):
    complaint = {
        "message": "temperature must be at most 2",
        "type": "invalid_request_error",
        "param": "temperature",
        "code": "decimal_above_max_value",
    }
    for status in (400, 413, 422):
        llm.says(Reply(status=status, body={"error": complaint}))
        for body in (LARGE, LARGE | {"stream": True}):
            found, _, raw = await gateway.post("/chat/completions", body)
            assert (found, error_of(raw)) == (status, complaint)


@pytest.mark.parametrize(
    "body", ["<html>no</html>", '{"error": "no"}', '[{"error": {"message": "no"}}]', "{}", '{"detail": "no"}']
)
async def test_a_complaint_in_another_shape_becomes_ours(gateway: Gateway, llm: Scripted, body: str):
    llm.says(Reply(status=422, body=body))
    status, code, param, message = await refused(gateway, "/chat/completions", LARGE)
    assert (status, code, param) == (422, "invalid_value", None)
    assert message.startswith("large-server")


async def test_each_refusal_of_an_upstream_has_its_status_and_code(gateway: Gateway, llm: Scripted):
    rows = {
        401: (502, "upstream_refused", None),
        403: (502, "upstream_refused", None),
        404: (502, "upstream_refused", None),
        307: (502, "upstream_refused", None),
        429: (429, "rate_limit_exceeded", "7"),
        500: (502, "upstream_error", None),
        503: (503, "upstream_overloaded", "7"),
    }
    for upstream_status, expected in rows.items():
        llm.says(Reply(status=upstream_status, headers={"Retry-After": "7"}))
        for body in (LARGE, LARGE | {"stream": True}):
            status, headers, raw = await gateway.post("/chat/completions", body)
            retry_after = headers.get("retry-after") if status in (429, 503) else None
            assert (status, error_of(raw)["code"], retry_after) == expected
            assert error_of(raw)["type"] == "upstream_error"
            assert str(upstream_status) in error_of(raw)["message"]


async def test_a_retry_after_is_always_given_for_429_and_503(gateway: Gateway, llm: Scripted):
    for status in (429, 503):
        llm.says(Reply(status=status))
        _, headers, _ = await gateway.post("/chat/completions", LARGE)
        assert headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("body", "stream"),
    [
        ("this is no JSON", False),
        ('{"choices": []}', False),
        ('{"choices": 7}', False),
        ("[1]", False),
        ("<html>a page</html>", False),
        ("<html>\n\na page\n\n</html>", True),
        ("data: {nonsense\n\n", True),
        ("data: [1]\n\n", True),
        ('data: {"error": {"message": "out of memory"}}\n\n', True),
        ("", True),
    ],
)
async def test_what_is_no_answer_is_an_error_and_not_passed_on(
    gateway: Gateway, llm: Scripted, body: str, stream: bool
):
    llm.says(Reply(body=body))
    status, code, _, _ = await refused(gateway, "/chat/completions", LARGE | {"stream": stream})
    assert (status, code) in ((502, "upstream_garbage"), (502, "upstream_lost"))


@pytest.fixture
def unused() -> Iterator[str]:
    """A loopback address where nothing listens, and nothing else will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/v1"


async def test_a_server_that_is_not_there_is_unavailable(start: StartGateway, llm: Scripted, unused: str):
    gateway = await start(settings_of(upstream(llm, "llm", url=unused)))
    for body in (LARGE, LARGE | {"stream": True}):
        status, code, _, message = await refused(gateway, "/chat/completions", body)
        assert (status, code) == (503, "upstream_unavailable")
        assert "cannot connect" in message


@asynccontextmanager
async def answering(answer: bytes, *, then_wait: bool = False) -> AsyncIterator[str]:
    """A server that sends these bytes whatever it is asked, then closes or stays silent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(answer)
        await writer.drain()
        if then_wait:
            await asyncio.Event().wait()

    async with listening(serve) as port:
        yield f"http://127.0.0.1:{port}/v1"


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (HEAD + b'{"choices": [', "upstream_lost"),
        (b"", "upstream_lost"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "upstream_lost"),
    ],
    ids=["mid-body", "at once", "no HTTP"],
)
async def test_a_server_that_closes_is_lost(start: StartGateway, llm: Scripted, answer: bytes, code: str):
    async with answering(answer) as url:
        gateway = await start(settings_of(upstream(llm, "llm", url=url)))
        status, found, _, _ = await refused(gateway, "/chat/completions", LARGE)
    assert (status, found) == (502, code)


@pytest.mark.parametrize("begun", [b"", HEAD + b'{"choices": ['], ids=["before", "midway"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a_server_that_falls_silent_is_a_timeout(
    start: StartGateway, llm: Scripted, begun: bytes, stream: bool
):
    async with answering(begun, then_wait=True) as url:
        limits = {"first_token": 0.05, "whole": 0.05, "gap": 0.05, "retries": 0}
        gateway = await start(settings_of(upstream(llm, "llm", url=url, limits=limits)))
        found = await refused(gateway, "/chat/completions", LARGE | {"stream": stream})
    assert found[:2] == (504, "upstream_timeout")
    assert found[3].startswith("large-server: ")


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_when_both_tiers_fail_the_message_names_both_in_order(
    gateway: Gateway, slm: Scripted, llm: Scripted, stream: bool
):
    slm.says(Reply(status=500))
    llm.says(Reply(status=503))
    status, code, _, message = await refused(gateway, "/chat/completions", ASK | {"stream": stream})
    assert message == (
        "small-server answered 500: scripted 500; then large-server answered 503: scripted 503"
    )
    assert (status, code) == (502, "upstream_error")


async def test_an_errors_exchange_can_be_looked_up(gateway: Gateway, llm: Scripted):
    llm.says(Reply(status=429))
    _, headers, _ = await gateway.post("/chat/completions", LARGE)
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    assert (exchange["status"], exchange["error"], exchange["route"]) == (429, "rate_limit_exceeded", "none")
    assert [call["outcome"] for call in exchange["calls"]] == ["rate_limited"]
    metrics = (await gateway.http.get(f"{gateway.root}/metrics")).text()
    assert 'reason="rate_limit_exceeded",route="none",status="429"' in await metrics


async def test_no_secret_is_ever_shown(
    slm: Scripted, llm: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The servers quote all that they were sent; nothing of it may come back out of the gateway."""
    monkeypatch.setattr("gateway.upstreams.resilience.breaker.FAILURES_TO_OPEN", 1_000)
    given: dict[str, Any] = {"key": KEY, "headers": {"X-Team": HEADER}, "query": {"token": QUERY}}
    settings = settings_of(upstream(slm, "slm", **given), upstream(llm, "llm", **given))
    quoted = f"you sent {KEY}, {HEADER} and {QUERY}"
    shown = repr(settings) + settings.model_dump_json()
    async with (
        gateway_of(settings, tmp_path, [simple_policy()]) as served,
        aiohttp.ClientSession() as http,
    ):
        gateway = Gateway(served, http)
        for status in (400, 401, 403, 404, 408, 422, 429, 500, 502, 503):
            for body in ({"error": {"message": quoted, "code": "x"}}, {"error": quoted}, quoted):
                for server in (slm, llm):
                    server.says(Reply(status=status, body=body))
                for more in ({}, {"stream": True}, {"model": "large"}, {"model": "nothing"}):
                    _, headers, raw = await gateway.post("/chat/completions", ASK | more)
                    shown += f"{headers} {raw.decode()}"
                    if number := headers.get("x-smallfirst-id"):
                        shown += json.dumps(await gateway.exchange(number))
        for path in ("/metrics", "/health/ready", "/v1/models", "/openapi.json"):
            async with gateway.http.get(f"{gateway.root}{path}") as response:
                shown += await response.text()
        await gateway.client.close()
    shown += "".join(record.model_dump_json() for record in read_records(tmp_path))
    assert llm.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert len(shown) > 100_000
    for secret in (KEY, HEADER, QUERY):
        assert secret not in shown
