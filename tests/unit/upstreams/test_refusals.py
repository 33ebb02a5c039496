"""What error responses of many servers say, and what becomes of it."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gateways import Gateway, StartGateway, settings_of, upstream
from support.scripted_server import Reply, Scripted
from support.strategy_requests import policy

from gateway.upstreams.failures import parse_failure
from gateway.upstreams.providers.refusals import CONTEXT_WORDINGS, ContextWording, Refusal, read_refusal
from routers.strategies.direct import Direct

LARGE = {"model": "large", "messages": [{"role": "user", "content": "Is ice cold?"}]}
QUOTA = {
    "error": {
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "type": "insufficient_quota",
        "param": None,
        "code": "insufficient_quota",
    }
}


def read(body: Any) -> Refusal:
    return read_refusal(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (QUOTA, QUOTA["error"]["message"], "insufficient_quota"),
        ({"error": "no such model"}, "no such model", ""),
        ({"code": "invalid-argument", "error": "too long"}, "too long", "invalid-argument"),
        ({"object": "error", "message": "no", "code": 400}, "no", "400"),
        (
            [{"error": {"code": 400, "message": 'Unknown name "x".', "status": "INVALID_ARGUMENT"}}],
            'Unknown name "x".',
            "INVALID_ARGUMENT",
        ),
        ({"detail": "Not allowed"}, "Not allowed", ""),
        (
            {
                "detail": [
                    {"type": "missing", "loc": ["body", "model"], "msg": "Field required"},
                    {"msg": "b"},
                ]
            },
            "body.model: Field required; b",
            "",
        ),
        ({"detail": {"error": {"message": "no", "code": "x"}}}, "no", ""),
        (
            {
                "object": "error",
                "message": {"detail": [{"loc": ["body", "temperature"], "msg": "too high"}]},
                "type": "invalid_request_error",
            },
            "body.temperature: too high",
            "",
        ),
        ({"errors": [{"message": "a", "code": "x"}, {"message": "b"}]}, "a; b", ""),
        ({"title": "Bad Request", "detail": "too high", "status": 400}, "too high", "400"),
        (
            {
                "error": {
                    "message": "Provider returned error",
                    "code": 400,
                    "metadata": {"raw": '{"error": {"message": "prompt is too long"}}', "provider_name": "X"},
                }
            },
            "Provider returned error; prompt is too long",
            "400",
        ),
    ],
)
def test_the_message_is_found_in_every_shape(body: Any, message: str, code: str):
    assert (read(body).message, read(body).code) == (message, code)


def test_plain_text_is_a_message_and_a_page_is_none():
    assert read_refusal(b" model is loading\n").message == "model is loading"
    assert read_refusal(b"<html>Bad Gateway</html>") == read_refusal(b"") == Refusal()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "detail", "code", "type", "loc", "msg"]), inner
        )
    ),
)


@given(JSON | st.integers(1, 300).map(lambda depth: json.loads("[" * depth + "]" * depth)))
def test_no_body_does_more_than_say_nothing(body: Any):
    refusal = read(body)
    assert all(isinstance(text, str) for text in (refusal.message, refusal.code, refusal.type))
    failure = parse_failure("u", "llm", 400, {}, json.dumps(body).encode())
    assert failure.why in ("rejected", "context", "out_of_quota")


@pytest.mark.parametrize("wording", CONTEXT_WORDINGS, ids=lambda wording: wording.server)
def test_each_wording_of_a_prompt_that_is_too_long_is_recognised(wording: ContextWording):
    assert re.search(wording.words, wording.example, re.IGNORECASE)
    for status in (400, 413, 422, 500):
        body = json.dumps({"error": {"type": "invalid_request_error", "message": wording.example}})
        assert parse_failure("u", "llm", status, {}, body.encode()).why == "context"


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens is too large: 9999. This model supports at most 4096 completion tokens.",
        "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 40000.",
        "string too long. Expected a string with maximum length 1000.",
        "The maximum number of stop sequences is 4.",
    ],
)
def test_other_limits_are_no_matter_of_the_context(message: str):
    assert not Refusal(message).is_context_overflow


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1250"}, 1.25),
        ({"retry-after-ms": "20", "retry-after": "1"}, 0.02),
        ({"retry-after-ms": "soon", "retry-after": "3"}, 3.0),
        ({"retry-after-ms": "-5"}, 0.0),
        ({}, None),
    ],
)
def test_milliseconds_to_wait_are_read_too(headers: dict[str, str], seconds: float | None):
    assert parse_failure("u", "llm", 429, headers, b"").retry_after == seconds


async def only_large(start: StartGateway, llm: Scripted, *more: dict[str, Any]) -> Gateway:
    return await start(settings_of(upstream(llm, "llm", limits={"retries": 2}), *more))


@pytest.mark.parametrize("stream", [False, True])
async def test_an_exhausted_quota_is_not_repeated_and_keeps_its_code(
    start: StartGateway, llm: Scripted, stream: bool
):
    gateway = await only_large(start, llm)
    llm.says(Reply(status=429, body=QUOTA, headers={"Retry-After": "0.01"}))
    status, headers, raw = await gateway.post("/chat/completions", LARGE | {"stream": stream})
    error = json.loads(raw)["error"]
    assert (status, error["code"], error["type"]) == (429, "insufficient_quota", "insufficient_quota")
    assert "exceeded your current quota" in error["message"]
    assert "retry-after" not in headers
    assert len(llm.requests) == 1


async def test_another_upstream_answers_and_is_preferred_while_a_quota_is_exhausted(
    start: StartGateway, llm: Scripted, spare: Scripted
):
    other = upstream(spare, "llm", model="large", priority=1)
    gateway = await only_large(start, llm, other)
    llm.says(Reply(status=429, body=QUOTA))
    for _ in range(2):
        assert (await gateway.post("/chat/completions", LARGE))[0] == 200
    assert (len(llm.requests), len(spare.requests)) == (1, 2)
    assert gateway.upstream("llm").is_up


async def test_a_prompt_that_is_too_long_in_any_words_goes_to_a_larger_context(
    start: StartGateway, llm: Scripted, spare: Scripted
):
    larger = upstream(spare, "llm", model="large", priority=1, context=100_000)
    settings = settings_of(upstream(llm, "llm", context=8000), larger)
    gateway = await start(settings)
    llm.says(
        Reply(status=400, body={"error": {"message": "prompt is too long: 210000 tokens > 200000 maximum"}})
    )
    status, headers, _ = await gateway.post("/chat/completions", LARGE)
    assert (status, len(spare.requests)) == (200, 1)
    found = await gateway.exchange(headers["x-smallfirst-id"])
    assert [call["outcome"] for call in found["calls"]] == ["context", "ok"]
    spare.says(
        Reply(status=400, body=[{"error": {"message": "The input token count exceeds the maximum number"}}])
    )
    status, _, raw = await gateway.post("/chat/completions", LARGE)
    assert (status, json.loads(raw)["error"]["code"]) == (400, "context_length_exceeded")


async def test_an_array_for_a_body_tells_its_message(start: StartGateway, llm: Scripted):
    gateway = await only_large(start, llm)
    body = [{"error": {"code": 400, "message": 'Unknown name "thinking".', "status": "INVALID_ARGUMENT"}}]
    llm.says(Reply(status=400, body=body))
    status, _, raw = await gateway.post("/chat/completions", LARGE)
    error = json.loads(raw)["error"]
    assert (status, error["code"]) == (400, "INVALID_ARGUMENT")
    assert 'Unknown name "thinking".' in error["message"]


async def test_the_codes_of_upstreams_are_no_labels_of_metrics(start: StartGateway, llm: Scripted):
    gateway = await start(settings_of(upstream(llm, "llm")), [policy(Direct(tier="llm", fallback=False))])
    for number in range(3):
        llm.says(Reply(status=400, body={"error": {"message": "no", "code": f"made_up_{number}"}}))
        _, headers, raw = await gateway.post("/chat/completions", LARGE)
        assert json.loads(raw)["error"]["code"] == f"made_up_{number}"
        assert (await gateway.exchange(headers["x-smallfirst-id"]))["error"] == f"made_up_{number}"
    async with gateway.http.get(f"{gateway.root}/metrics") as response:
        page = await response.text()
    assert "made_up" not in page
    (line,) = [line for line in page.splitlines() if 'reason="rejected"' in line]
    assert line.startswith("smallfirst_requests_total{")
    assert line.endswith(" 3.0")
