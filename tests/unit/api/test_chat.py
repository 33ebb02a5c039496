"""POST /v1/chat/completions through the cascade, with both tiers scripted."""

import asyncio
import json

import openai
import pytest
from support.gateways import Gateway, StartGateway, settings_of, simple_policy, upstream
from support.scripted_server import Reply, Scripted
from support.waiting import soon

ASK = {"model": "test", "messages": [{"role": "user", "content": "What is the opposite of hot?"}]}
STREAM = ASK | {"stream": True}


def events(raw: bytes) -> list[dict]:
    lines = [line[6:] for line in raw.decode().split("\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def text(chunks: list[dict]) -> str:
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])


def comment(raw: bytes) -> dict:
    (line,) = [line for line in raw.decode().split("\n") if line.startswith(": smallfirst ")]
    return json.loads(line.removeprefix(": smallfirst "))


async def test_a_confident_draft_is_served_and_the_llm_not_asked(
    gateway: Gateway, slm: Scripted, llm: Scripted
):
    slm.says(Reply("It is cold.", logprobs=-0.01))
    status, headers, raw = await gateway.post("/chat/completions", ASK)
    body = json.loads(raw)
    assert status == 200
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "It is cold."}
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["completion_tokens"] == 3
    assert "logprobs" not in body["choices"][0]
    assert headers["x-smallfirst-route"] == "slm"
    assert headers["x-smallfirst-reason"] == "confident"
    assert float(headers["x-smallfirst-confidence"]) > 0.9
    assert llm.requests == []


async def test_an_unsure_draft_is_answered_by_the_llm(gateway: Gateway, slm: Scripted, llm: Scripted):
    slm.says(Reply("Maybe blue?", logprobs=-1.5))
    llm.says("Cold.")
    status, headers, raw = await gateway.post("/chat/completions", ASK)
    assert status == 200
    assert json.loads(raw)["choices"][0]["message"]["content"] == "Cold."
    assert headers["x-smallfirst-route"] == "llm"
    assert headers["x-smallfirst-reason"] == "low_confidence"
    assert float(headers["x-smallfirst-confidence"]) < 0.5
    assert llm.requests[0]["model"] == "large"


async def test_money_is_counted_from_reported_usage(gateway: Gateway, slm: Scripted, llm: Scripted):
    """Prices: 1 and 4 USD per million tokens in and out; the small model is free."""
    slm.says(Reply("It is cold.", logprobs=-0.01))
    _, headers, _ = await gateway.post("/chat/completions", ASK)
    assert float(headers["x-smallfirst-cost-usd"]) == 0.0
    assert float(headers["x-smallfirst-saved-usd"]) == pytest.approx((10 * 1 + 3 * 4) / 1e6)
    slm.says(Reply("Maybe blue?", logprobs=-1.5))
    llm.says("Cold it is then.")
    _, headers, _ = await gateway.post("/chat/completions", ASK)
    assert float(headers["x-smallfirst-cost-usd"]) == pytest.approx((10 * 1 + 4 * 4) / 1e6)
    assert float(headers["x-smallfirst-saved-usd"]) == pytest.approx(0.0)


async def test_a_stream_flows_before_its_draft_is_complete(gateway: Gateway, slm: Scripted):
    gate = asyncio.Event()
    slm.says(Reply("one two three four five six seven eight", gate=gate, gate_at=7))
    stream = await gateway.client.chat.completions.create(**STREAM)
    seen = ""
    async for chunk in stream:
        seen += chunk.choices[0].delta.content or ""
        if seen == "one two three four five six":
            break
    assert not gate.is_set()
    gate.set()
    async for chunk in stream:
        seen += chunk.choices[0].delta.content or ""
    assert seen == "one two three four five six seven eight"


async def test_a_stream_is_one_well_formed_openai_stream(gateway: Gateway, slm: Scripted):
    slm.says(Reply("one two three four five six seven eight"))
    status, headers, raw = await gateway.post("/chat/completions", STREAM)
    chunks = events(raw)
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert [c["choices"][0]["delta"].get("role") for c in chunks].count("assistant") == 1
    assert [c["choices"][0]["finish_reason"] for c in chunks if c["choices"][0]["finish_reason"]] == ["stop"]
    assert all("usage" not in chunk for chunk in chunks)
    assert comment(raw)["route"] == headers["x-smallfirst-route"] == "slm"
    assert comment(raw)["reason"] == headers["x-smallfirst-reason"] == "committed"


async def test_usage_arrives_only_when_asked_for_and_carries_the_figures(gateway: Gateway, slm: Scripted):
    slm.says(Reply("one two three"))
    _, _, raw = await gateway.post("/chat/completions", STREAM | {"stream_options": {"include_usage": True}})
    last = events(raw)[-1]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 3
    assert last["smallfirst"]["route"] == "slm"
    assert last["smallfirst"]["saved_usd"] == pytest.approx((10 + 3 * 4) / 1e6)


async def test_an_escalated_stream_is_the_llms_own(gateway: Gateway, slm: Scripted, llm: Scripted):
    slm.says(Reply("Maybe blue", logprobs=-1.5))
    llm.says(Reply("Cold it is.", extra={"system_fingerprint": "fp_1"}))
    _, headers, raw = await gateway.post("/chat/completions", STREAM)
    chunks = events(raw)
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("llm", "low_confidence")
    assert float(headers["x-smallfirst-confidence"]) < 0.5
    assert text(chunks) == "Cold it is."
    assert all(chunk["system_fingerprint"] == "fp_1" for chunk in chunks)
    assert all(chunk.get("usage") is None for chunk in chunks)
    assert (comment(raw)["route"], comment(raw)["reason"]) == ("llm", "low_confidence")
    assert comment(raw)["cost_usd"] == pytest.approx((10 + 3 * 4) / 1e6)


@pytest.mark.parametrize("body", [ASK, STREAM], ids=["plain", "stream"])
async def test_a_hopeless_draft_is_stopped_and_its_server_sees_the_client_gone(
    gateway: Gateway, slm: Scripted, llm: Scripted, body: dict
):
    never = asyncio.Event()
    slm.says(Reply("a b c d e f g h i j", logprobs=-5.0, gate=never, gate_at=7))
    llm.says("Cold.")
    status, headers, raw = await gateway.post("/chat/completions", body)
    assert status == 200
    assert b"Cold." in raw
    await soon(slm.gone.wait())
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    draft, better = exchange["calls"]
    assert (draft["outcome"], draft["reason"], draft["completion_tokens"]) == ("stopped", "gave_up", 6)
    assert draft["estimated"] is True
    assert better["outcome"] == "ok"
    assert exchange["reason"] == "gave_up"


@pytest.mark.parametrize("body", [ASK, STREAM], ids=["plain", "stream"])
async def test_with_the_llm_dead_the_draft_stands_and_says_so(
    gateway: Gateway, slm: Scripted, llm: Scripted, body: dict
):
    slm.says(Reply("Maybe blue?", logprobs=-1.5))
    llm.says(Reply(status=500))
    status, headers, raw = await gateway.post("/chat/completions", body)
    assert status == 200
    assert b"Maybe" in raw
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    assert (exchange["route"], exchange["reason"]) == ("slm", "no_llm")
    assert [call["outcome"] for call in exchange["calls"]] == ["ok", "error"]


async def test_a_draft_given_up_is_written_again_when_the_llm_is_dead(
    gateway: Gateway, slm: Scripted, llm: Scripted
):
    slm.says(Reply("a b c d e f g h", logprobs=-5.0))
    llm.says(Reply(status=500))
    _, headers, raw = await gateway.post("/chat/completions", ASK)
    assert json.loads(raw)["choices"][0]["message"]["content"] == "a b c d e f g h"
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    assert [call["outcome"] for call in exchange["calls"]] == ["stopped", "error", "ok"]
    assert exchange["reason"] == "no_llm"


async def test_without_an_llm_the_draft_flows_at_once(start: StartGateway, slm: Scripted):
    gateway = await start(settings_of(upstream(slm, "slm")), [simple_policy()])
    gate = asyncio.Event()
    slm.says(Reply("Maybe blue or green", logprobs=-1.5, gate=gate, gate_at=2))
    stream = await gateway.client.chat.completions.create(**STREAM)
    seen = ""
    async for chunk in stream:
        seen += chunk.choices[0].delta.content or ""
        if seen == "Maybe blue":
            gate.set()
    assert seen == "Maybe blue or green"


@pytest.mark.parametrize("body", [ASK, STREAM], ids=["plain", "stream"])
@pytest.mark.parametrize(
    "failure",
    [
        Reply(status=500),
        Reply(status=429, headers={"Retry-After": "30"}),
        Reply(status=401),
        Reply(cut_at=0),
        Reply("one two three four", logprobs=-1.5, cut_at=2),
        Reply(body="<html>not what you asked for</html>"),
    ],
    ids=["500", "429", "401", "cut at once", "cut midway", "garbage"],
)
async def test_with_the_slm_failing_the_llm_answers(
    gateway: Gateway, slm: Scripted, llm: Scripted, body: dict, failure: Reply
):
    slm.says(failure)
    llm.says("Cold.")
    status, headers, raw = await gateway.post("/chat/completions", body)
    assert status == 200
    assert b"Cold." in raw
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    assert (exchange["route"], exchange["reason"]) == ("llm", "no_slm")


async def test_a_prompt_too_long_for_the_slm_goes_to_the_llm(gateway: Gateway, slm: Scripted, llm: Scripted):
    error = {
        "error": {"code": 400, "type": "exceed_context_size_error", "message": "9031 tokens exceed 2048"}
    }
    slm.says(Reply(status=400, body=error))
    llm.says("Cold.")
    _, headers, _ = await gateway.post("/chat/completions", ASK)
    assert headers["x-smallfirst-reason"] == "context_too_long"


async def test_a_prompt_too_long_without_an_llm_is_an_error_that_says_the_limit(
    start: StartGateway, slm: Scripted
):
    gateway = await start(settings_of(upstream(slm, "slm")), [simple_policy()])
    error = {
        "error": {"code": 400, "type": "exceed_context_size_error", "message": "9031 tokens exceed 2048"}
    }
    slm.says(Reply(status=400, body=error))
    with pytest.raises(openai.BadRequestError, match="2048") as caught:
        await gateway.client.chat.completions.create(**ASK)
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"audio": {"voice": "x", "format": "wav"}},
    ],
    ids=["n", "audio"],
)
async def test_what_no_calibrator_judges_goes_to_the_llm(
    gateway: Gateway, slm: Scripted, llm: Scripted, more: dict
):
    _, headers, _ = await gateway.post("/chat/completions", ASK | more)
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("llm", "not_judged")
    assert slm.requests == []


async def test_a_draft_without_logprobs_is_not_guessed_about(gateway: Gateway, slm: Scripted, llm: Scripted):
    slm.says(Reply("It is cold.", without_logprobs=True))
    _, headers, _ = await gateway.post("/chat/completions", ASK)
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("llm", "no_logprobs")
    assert "x-smallfirst-confidence" not in headers


async def test_an_empty_draft_escalates(gateway: Gateway, slm: Scripted, llm: Scripted):
    slm.says(Reply(""))
    _, headers, _ = await gateway.post("/chat/completions", ASK)
    assert headers["x-smallfirst-reason"] == "empty"


@pytest.mark.parametrize("asked", [None, 0, 2, 5])
async def test_the_client_gets_the_logprobs_it_asked_for_and_no_more(
    gateway: Gateway, slm: Scripted, asked: int | None
):
    more = {} if asked is None else {"logprobs": True, "top_logprobs": asked}
    answer = await gateway.client.chat.completions.create(**ASK, **more)
    logprobs = answer.choices[0].logprobs
    if asked is None:
        assert logprobs is None
    else:
        assert [token.token for token in logprobs.content] == ["It", " is", " cold."]
        assert all(len(token.top_logprobs) == asked for token in logprobs.content)
    assert slm.requests[0]["top_logprobs"] == 5


async def test_unknown_fields_pass_through_both_ways(gateway: Gateway, slm: Scripted):
    slm.says(Reply(extra={"vendor_field": {"a": [1]}}))
    _, _, raw = await gateway.post(
        "/chat/completions", ASK | {"top_k": 7, "vendor": {"x": None}, "smallfirst": {}}
    )
    assert json.loads(raw)["vendor_field"] == {"a": [1]}
    assert slm.requests[0]["top_k"] == 7
    assert slm.requests[0]["vendor"] == {"x": None}
    assert "smallfirst" not in slm.requests[0]


async def test_an_upstreams_model_can_be_asked_by_name_and_its_reply_is_unchanged(
    gateway: Gateway, llm: Scripted
):
    llm.says(Reply("Cold.", extra={"service_tier": "x", "odd": 1.0}))
    _, headers, raw = await gateway.post("/chat/completions", ASK | {"model": "large"})
    assert json.loads(raw) == {
        "id": "up-1",
        "object": "chat.completion",
        "created": 1,
        "model": "large",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Cold."}}
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11},
        "service_tier": "x",
        "odd": 1.0,
    }
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("llm", "policy")


async def test_an_llm_lost_after_bytes_left_ends_the_stream_with_an_error_event(
    gateway: Gateway, llm: Scripted
):
    llm.says(Reply("one two three four", cut_at=2))
    status, headers, raw = await gateway.post("/chat/completions", STREAM | {"model": "large"})
    last = [line for line in raw.decode().split("\n") if line][-1]
    assert status == 200
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "upstream_lost"
    assert b"[DONE]" not in raw
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    assert exchange["error"] == "upstream_lost"


async def test_a_committed_stream_whose_slm_dies_is_continued_from_its_text(gateway: Gateway, slm: Scripted):
    slm.says(Reply("one two three four five six seven eight nine", cut_at=8), Reply(" nine"))
    _, headers, raw = await gateway.post("/chat/completions", STREAM | {"max_tokens": 20})
    chunks = events(raw)
    assert text(chunks) == "one two three four five six seven eight nine"
    assert [c["choices"][0]["delta"].get("role") for c in chunks].count("assistant") == 1
    assert len({chunk["id"] for chunk in chunks}) == 1
    again = slm.requests[1]
    assert again["messages"][-1] == {
        "role": "assistant",
        "content": "one two three four five six seven eight",
    }
    assert again["max_tokens"] == 12
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    assert [call["outcome"] for call in exchange["calls"]] == ["lost", "ok"]


@pytest.mark.parametrize("body", [ASK, STREAM], ids=["plain", "stream"])
async def test_a_client_that_goes_away_cancels_its_upstream_call(gateway: Gateway, slm: Scripted, body: dict):
    slm.says(Reply("a b c d e f", gate=asyncio.Event(), gate_at=3))
    asking = asyncio.create_task(gateway.post("/chat/completions", body))
    await slm.arrived.wait()
    asking.cancel()
    await soon(slm.gone.wait())


async def test_a_policy_in_the_body_and_tags_are_read_and_kept(gateway: Gateway, slm: Scripted):
    own = {"policy": "test", "tags": {"team": "search"}}
    status, headers, _ = await gateway.post("/chat/completions", ASK | {"model": "large", "smallfirst": own})
    assert status == 200
    assert headers["x-smallfirst-policy"] == "test"
