"""Every strategy live: the engine performs its plan against scripted servers, and its record replays."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from doubles import Reply, Scripted
from gateways import Gateway, StartGateway, settings_of, simple_calibrator, simple_policy, upstream

from gateway.upstreams.breaker import FAILURES
from policies.schema import Affinity, Ceilings, Policy, Shadow
from routers.difficulty import Difficulty, Gate
from routers.direct import Direct
from routers.hedge import Hedge
from routers.judge import Verify

ASK = {"model": "test", "messages": [{"role": "user", "content": "Is ice cold?"}]}
SURE, UNSURE, HOPELESS = -0.01, -1.2, -3.0
SENTENCE = "Ice is very cold to the touch."


def policy(router: Any, **more: Any) -> Policy:
    return Policy(name="test", description="For tests.", router=router, **more)


def hedge(**changes: Any) -> Policy:
    fields = {"accept": 0.5, "commit": 0.9, "give_up": 0.1, "calibrator": simple_calibrator()}
    return policy(Hedge(**(fields | changes)))


async def streamed(gateway: Gateway, body: dict[str, Any]) -> tuple[str, list[dict[str, Any]], bytes]:
    """The text, the chunks and the raw bytes of a stream."""
    status, _, raw = await gateway.post("/chat/completions", body | {"stream": True})
    assert status == 200, raw
    return text_of(raw), chunks_of(raw), raw


def chunks_of(raw: bytes) -> list[dict[str, Any]]:
    lines = [line[6:] for line in raw.split(b"\n") if line.startswith(b"data: ")]
    assert lines[-1] == b"[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def text_of(raw: bytes) -> str:
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks_of(raw) for choice in chunk["choices"]
    )


def assert_well_formed(chunks: list[dict[str, Any]]) -> None:
    """One id, one role, one finish, which ends it."""
    assert len({chunk["id"] for chunk in chunks}) == 1
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    assert [bool(choice["delta"].get("role")) for choice in choices].count(True) == 1
    finishes = [choice["finish_reason"] for choice in choices]
    assert [finish for finish in finishes if finish] == [finishes[-1]]


def figures_of(raw: bytes) -> dict[str, Any]:
    found = [line for line in raw.split(b"\n") if line.startswith(b": smallfirst ")]
    return dict(json.loads(found[0].removeprefix(b": smallfirst ")))


# --- hedge


@pytest.mark.parametrize("stream", [True, False])
async def test_a_sure_draft_outruns_the_llm_which_is_cancelled(
    start: StartGateway, slm: Scripted, llm: Scripted, stream: bool
):
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [hedge()])
    slm.says(Reply(SENTENCE, logprobs=SURE))
    llm.says(Reply("Never sent.", gate=asyncio.Event()))
    status, headers, raw = await gateway.post("/chat/completions", ASK | {"stream": stream})
    assert status == 200
    assert (text_of(raw) if stream else json.loads(raw)["choices"][0]["message"]["content"]) == SENTENCE
    await asyncio.wait_for(llm.gone.wait(), 2)
    found = await gateway.exchange(headers["x-smallfirst-id"])
    assert [call["outcome"] for call in found["calls"]] == ["ok", "outrun"]
    assert (found["route"], found["reason"]) == ("slm", "committed" if stream else "confident")


@pytest.mark.parametrize("stream", [True, False])
async def test_the_llm_outruns_a_draft_that_is_slow_to_convince(
    start: StartGateway, slm: Scripted, llm: Scripted, stream: bool
):
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [hedge()])
    slm.says(Reply(SENTENCE, logprobs=SURE, gate=asyncio.Event(), gate_at=3))
    llm.says("It is cold, yes.")
    status, headers, raw = await gateway.post("/chat/completions", ASK | {"stream": stream})
    assert status == 200
    text = text_of(raw) if stream else json.loads(raw)["choices"][0]["message"]["content"]
    assert text == "It is cold, yes."
    await asyncio.wait_for(slm.gone.wait(), 2)
    found = await gateway.exchange(headers["x-smallfirst-id"])
    assert [call["outcome"] for call in found["calls"]] == ["outrun", "ok"]
    assert (found["route"], found["reason"]) == ("llm", "outran")


async def test_a_hedged_draft_that_gives_up_leaves_the_answer_to_the_llm(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [hedge()])
    gate = asyncio.Event()
    slm.says(Reply(SENTENCE, logprobs=HOPELESS, gate=asyncio.Event(), gate_at=6))
    llm.says(Reply("It is cold, yes.", gate=gate))
    asking = asyncio.ensure_future(gateway.post("/chat/completions", ASK | {"stream": True}))
    await asyncio.wait_for(slm.gone.wait(), 2)
    gate.set()
    _, headers, raw = await asking
    assert text_of(raw) == "It is cold, yes."
    assert headers["x-smallfirst-reason"] == "outran" or headers["x-smallfirst-route"] == "llm"
    found = await gateway.exchange(headers["x-smallfirst-id"])
    assert [call["outcome"] for call in found["calls"]] == ["stopped", "ok"]
    assert found["reason"] == "gave_up"


@pytest.mark.parametrize("stream", [True, False])
async def test_either_leg_of_a_hedge_may_die(start: StartGateway, slm: Scripted, llm: Scripted, stream: bool):
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [hedge()])
    slm.says(Reply(status=500))
    _, headers, _ = await gateway.post("/chat/completions", ASK | {"stream": stream})
    assert (await gateway.exchange(headers["x-smallfirst-id"]))["reason"] == "no_slm"
    slm.says(Reply(SENTENCE, logprobs=UNSURE))
    llm.says(Reply(status=500))
    _, headers, _ = await gateway.post("/chat/completions", ASK | {"stream": stream})
    found = await gateway.exchange(headers["x-smallfirst-id"])
    assert (found["route"], found["reason"]) == ("slm", "no_llm")


async def test_both_legs_of_a_hedge_dead_is_an_error_that_names_both(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [hedge()])
    slm.says(Reply(status=500))
    llm.says(Reply(status=500))
    status, _, raw = await gateway.post("/chat/completions", ASK)
    assert status == 502
    assert b"small-server" in raw
    assert b"large-server" in raw


async def test_a_client_that_leaves_a_hedge_cancels_both_legs(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [hedge()])
    slm.says(Reply(SENTENCE, gate=asyncio.Event(), gate_at=2))
    llm.says(Reply("No.", gate=asyncio.Event()))
    asking = asyncio.ensure_future(gateway.post("/chat/completions", ASK | {"stream": True}))
    await asyncio.gather(slm.arrived.wait(), llm.arrived.wait())
    asking.cancel()
    await asyncio.wait_for(asyncio.gather(slm.gone.wait(), llm.gone.wait()), 2)


# --- difficulty


async def test_a_prompt_over_a_limit_goes_to_the_llm_and_others_stay(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    easy = policy(Difficulty(gate=Gate(limits={"numbers": 1})))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [easy])
    _, headers, _ = await gateway.post("/chat/completions", ASK)
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("slm", "easy")
    hard = ASK | {"messages": [{"role": "user", "content": "What is 12 times 34?"}]}
    _, headers, _ = await gateway.post("/chat/completions", hard)
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("llm", "too_hard")
    text, chunks, _ = await streamed(gateway, hard)
    assert text == "It is cold."
    assert_well_formed(chunks)


# --- judged after


def verdict(yes: float, no: float) -> Reply:
    top = [{"token": " Yes", "logprob": yes}, {"token": "no", "logprob": no}, {"token": "x", "logprob": -9.0}]
    choice = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "Yes"}}
    choice["logprobs"] = {"content": [{"token": " Yes", "logprob": yes, "top_logprobs": top}]}
    return Reply(extra={"choices": [choice]})


@pytest.mark.parametrize("stream", [True, False])
async def test_a_judgement_after_the_draft_decides(
    start: StartGateway, slm: Scripted, llm: Scripted, stream: bool
):
    judged = simple_policy(release="hold", commit=None, judge=Verify(tier="llm", accept=0.5))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [judged])
    slm.says(Reply(SENTENCE, logprobs=SURE))
    for reply, route in ((verdict(-0.1, -3.0), "slm"), (verdict(-3.0, -0.1), "llm")):
        llm.says(reply, "It is cold, yes.")
        _, headers, raw = await gateway.post("/chat/completions", ASK | {"stream": stream})
        found = await gateway.exchange(headers["x-smallfirst-id"])
        assert (found["route"], found["reason"]) == (route, "judged")
        text = text_of(raw) if stream else json.loads(raw)["choices"][0]["message"]["content"]
        assert text == (SENTENCE if route == "slm" else "It is cold, yes.")
    question = llm.requests[0]["messages"][0]["content"]
    assert "Is ice cold?" in question
    assert SENTENCE in question


async def test_a_judge_that_says_neither_label_leaves_the_confidence_to_decide(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    judged = simple_policy(release="hold", commit=None, judge=Verify(tier="llm"))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [judged])
    slm.says(Reply(SENTENCE, logprobs=SURE))
    llm.says("It has no log-probabilities.")
    _, headers, _ = await gateway.post("/chat/completions", ASK)
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("slm", "confident")


async def test_a_judgement_is_a_sign_of_life_and_one_that_breaks_off_is_a_failure(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    """Of an upstream that nobody asks to write."""
    judged = simple_policy(release="hold", commit=None, judge=Verify(tier="llm"))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [judged])
    slm.says(Reply(SENTENCE, logprobs=SURE))
    breaker = gateway.upstream("llm").breaker
    for reply, opens in ((verdict(-0.1, -3.0), False), (Reply(body="<html>"), True)):
        for _ in range(FAILURES - 1):
            breaker.failure()
        llm.says(reply)
        await gateway.post("/chat/completions", ASK)
        assert breaker.is_open is opens
        if not opens:
            breaker.success()


# --- splice


SPLICED = simple_policy(release="splice", accept=0.5, commit=0.8, give_up=0.3)
TWO = "Ice is very cold to the touch. But glue purple seven of of the the of"


async def test_a_stream_whose_confidence_collapses_goes_on_in_the_llms_hand(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm", engine="vllm")), [SPLICED])
    sure = len(SENTENCE.split())
    slm.says(Reply(TWO, logprobs=[SURE] * sure + [-9.0] * (len(TWO.split()) - sure)))
    llm.says(" It can hurt.")
    body = ASK | {"stream_options": {"include_usage": True}, "max_tokens": 40}
    text, chunks, _ = await streamed(gateway, body)
    assert text == f"{SENTENCE} It can hurt."
    assert_well_formed(chunks)
    asked = llm.requests[0]
    assert asked["messages"][-1] == {"role": "assistant", "content": SENTENCE}
    assert asked["continue_final_message"] is True
    assert asked["max_tokens"] == 40 - sure
    usage = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    assert len(usage) == 1
    assert usage[0]["completion_tokens"] == sure + len(["", "It", "can", "hurt."])
    assert chunks[-1]["smallfirst"]["route"] == "slm+llm"


async def test_an_llm_that_breaks_off_before_it_says_anything_leaves_the_rest_to_the_slm(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm", engine="vllm")), [SPLICED])
    sure = len(SENTENCE.split())
    slm.says(Reply(TWO, logprobs=[SURE] * sure + [-9.0] * (len(TWO.split()) - sure)), Reply(" It can hurt."))
    role = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
    llm.says(Reply(raw=b"data: " + json.dumps(role).encode() + b"\n\n", then="abort"))
    text, chunks, raw = await streamed(gateway, ASK)
    assert text == f"{SENTENCE} It can hurt."
    assert_well_formed(chunks)
    assert (figures_of(raw)["route"], figures_of(raw)["reason"]) == ("slm", "no_llm")


async def test_whitespace_at_a_seam_is_delivered_once(start: StartGateway, slm: Scripted, llm: Scripted):
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm", engine="vllm")), [SPLICED])
    words = ["Ice", " is", " very", " cold", " to", " touch.\n", "But", " glue", " of", " the", " the", " of"]
    slm.says(Reply("|".join(words), separator="|", logprobs=[SURE] * 6 + [-9.0] * 6))
    llm.says(" \nIt hurts.")
    text, _, _ = await streamed(gateway, ASK)
    assert text == "Ice is very cold to touch.\nIt hurts."
    assert llm.requests[0]["messages"][-1]["content"] == "Ice is very cold to touch."


async def test_where_nobody_can_go_on_the_held_rest_stands(start: StartGateway, slm: Scripted, llm: Scripted):
    low = simple_policy(release="splice", accept=0.6, commit=0.6, give_up=None)
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm", engine="vllm")), [low])
    sure = len(SENTENCE.split())
    slm.says(Reply(TWO, logprobs=[SURE] * sure + [-9.0] * (len(TWO.split()) - sure)))
    llm.says(Reply(status=503))
    text, chunks, raw = await streamed(gateway, ASK)
    assert text == TWO
    assert_well_formed(chunks)
    assert (figures_of(raw)["route"], figures_of(raw)["reason"]) == ("slm", "no_llm")


# --- a request that must be whole


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def calling(name: str, arguments: str) -> Reply:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": name, "arguments": ""}}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}, {"tool_calls": [call]}]
    deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in arguments]
    events = []
    for delta in deltas:
        token = next(iter((delta.get("tool_calls") or [{}])[0].get("function", {}).values()), "")
        logprobs = {"content": [scored(token or "call")]}
        choice = {"index": 0, "delta": delta, "finish_reason": None, "logprobs": logprobs}
        events.append({"id": "u", "object": "chat.completion.chunk", "created": 1, "choices": [choice]})
    done = {"index": 0, "delta": {}, "finish_reason": "tool_calls"}
    events.append({"id": "u", "object": "chat.completion.chunk", "created": 1, "choices": [done]})
    raw = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    return Reply(raw=raw + b"data: [DONE]\n\n")


def scored(token: str) -> dict[str, Any]:
    tops = [{"token": token, "logprob": SURE}, {"token": "?", "logprob": -5.0}]
    return {"token": token, "logprob": SURE, "top_logprobs": tops}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("weather", '{"city": "Rome"}', "confident"),
        ("weather", '{"town": "Rome"}', "tool_arguments"),
        ("weather", '{"city": ', "tool_arguments"),
        ("wether", '{"city": "Rome"}', "tool_not_offered"),
    ],
)
async def test_only_a_sound_tool_call_of_the_small_model_is_served(
    gateway: Gateway, slm: Scripted, llm: Scripted, stream: bool, name: str, arguments: str, reason: str
):
    slm.says(calling(name, arguments))
    _, headers, raw = await gateway.post("/chat/completions", ASK | {"tools": [TOOL], "stream": stream})
    found = await gateway.exchange(headers["x-smallfirst-id"])
    assert (found["route"], found["reason"]) == ("slm" if reason == "confident" else "llm", reason)
    if reason != "confident":
        assert b"weather" not in raw
        assert b"wether" not in raw
    elif stream:
        parts = [chunk["choices"][0]["delta"].get("tool_calls") or [] for chunk in chunks_of(raw)]
        assert "".join(part["function"]["arguments"] for call in parts for part in call) == arguments
    else:
        (call,) = json.loads(raw)["choices"][0]["message"]["tool_calls"]
        assert (call["function"]["name"], call["function"]["arguments"]) == (name, arguments)


@pytest.mark.parametrize("indexed", [True, False])
async def test_calls_that_come_whole_in_one_chunk_beside_text_are_told_apart(
    gateway: Gateway, slm: Scripted, llm: Scripted, indexed: bool
):
    """As some servers send them, with and without the index of each."""
    calls = [
        {
            "id": f"c{at}",
            "type": "function",
            "function": {"name": "weather", "arguments": f'{{"city": "{city}"}}'},
        }
        for at, city in enumerate(("Rome", "Oslo"))
    ]
    if indexed:
        calls = [{"index": at, **call} for at, call in enumerate(calls)]
    delta = {"role": "assistant", "content": "Looking.", "tool_calls": calls}
    choice = {
        "index": 0,
        "delta": delta,
        "finish_reason": "tool_calls",
        "logprobs": {"content": [scored("c")]},
    }
    event = {"id": "u", "object": "chat.completion.chunk", "created": 1, "choices": [choice]}
    slm.says(Reply(raw=b"data: " + json.dumps(event).encode() + b"\n\ndata: [DONE]\n\n"))
    _, headers, raw = await gateway.post("/chat/completions", ASK | {"tools": [TOOL]})
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("slm", "confident")
    found = json.loads(raw)["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["arguments"] for call in found] == ['{"city": "Rome"}', '{"city": "Oslo"}']


SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "cold",
        "schema": {"type": "object", "properties": {"cold": {"type": "boolean"}}, "required": ["cold"]},
    },
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"cold": true}', "confident"),
        ('{"cold": 1}', "schema_mismatch"),
        ('{"cold": tru', "invalid_json"),
        ("Yes.", "invalid_json"),
    ],
)
async def test_only_a_draft_that_meets_the_schema_is_served(
    gateway: Gateway, slm: Scripted, llm: Scripted, stream: bool, text: str, reason: str
):
    slm.says(Reply(text, logprobs=SURE))
    body = ASK | {"response_format": SCHEMA, "stream": stream}
    _, headers, _ = await gateway.post("/chat/completions", body)
    assert (await gateway.exchange(headers["x-smallfirst-id"]))["reason"] == reason


async def test_a_draft_that_must_be_whole_commits_nothing_early(
    gateway: Gateway, slm: Scripted, llm: Scripted
):
    gate = asyncio.Event()
    slm.says(Reply(f"{SENTENCE} And no JSON.", logprobs=SURE, gate=gate, gate_at=8))
    asking = asyncio.ensure_future(
        gateway.post("/chat/completions", ASK | {"response_format": {"type": "json_object"}, "stream": True})
    )
    await slm.arrived.wait()
    gate.set()
    _, _, raw = await asking
    assert b"Ice" not in raw
    assert figures_of(raw)["reason"] == "invalid_json"


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
    limited = simple_policy().changed(ceilings=Ceilings(seconds=0.05))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [limited])
    slm.says(Reply(SENTENCE, gate=asyncio.Event(), gate_at=2))
    status, _, raw = await gateway.post("/chat/completions", ASK)
    assert (status, json.loads(raw)["error"]["code"]) == (403, "ceiling_reached")
    await asyncio.wait_for(slm.gone.wait(), 2)
    assert llm.requests == []


@pytest.mark.parametrize("stream", [True, False])
async def test_the_ceiling_on_time_ends_both_legs_of_a_hedge_and_the_exchange(
    start: StartGateway, slm: Scripted, llm: Scripted, stream: bool
):
    limited = hedge().changed(ceilings=Ceilings(seconds=0.05))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [limited])
    slm.says(Reply(SENTENCE, gate=asyncio.Event(), gate_at=2))
    llm.says(Reply("Never sent.", gate=asyncio.Event()))
    status, headers, raw = await gateway.post("/chat/completions", ASK | {"stream": stream})
    error = json.loads(raw)["error"]
    assert (status, error["code"]) == (403, "ceiling_reached")
    assert error["message"] == "out of time; then the 0.05 s of this exchange are over"
    await asyncio.wait_for(asyncio.gather(slm.gone.wait(), llm.gone.wait()), 2)
    assert (len(slm.requests), len(llm.requests)) == (1, 1)
    found = await gateway.exchange(headers["x-smallfirst-id"])
    assert [(call["tier"], call["upstream"], call["outcome"]) for call in found["calls"]] == [
        ("slm", "small-server", "ceiling"),
        ("llm", "large-server", "ceiling"),
        ("slm", "", "ceiling"),  # the plan asked on, and the door let nothing out any more
    ]
    assert found["calls"][2]["cost_usd"] == 0.0


async def test_a_hedged_answer_that_flows_when_the_time_is_over_ends_in_an_error(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    limited = hedge().changed(ceilings=Ceilings(seconds=0.2))
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
    limited = simple_policy().changed(ceilings=Ceilings(tokens=20))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [limited])
    slm.says(Reply(SENTENCE, logprobs=UNSURE))
    await gateway.post("/chat/completions", ASK | {"max_tokens": 100})
    assert slm.requests[0]["max_tokens"] == 20
    assert llm.requests[0]["max_tokens"] == 20 - len(SENTENCE.split())


async def test_dollars_that_would_not_pay_the_prompt_leave_the_draft(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    limited = simple_policy().changed(ceilings=Ceilings(usd=1e-6))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [limited])
    slm.says(Reply(SENTENCE, logprobs=UNSURE))
    _, headers, _ = await gateway.post("/chat/completions", ASK)
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("slm", "no_llm")
    assert llm.requests == []


@pytest.mark.parametrize("whose", ["the request's", "the policy's"])
async def test_what_is_private_never_reaches_a_cloud(
    start: StartGateway, slm: Scripted, llm: Scripted, whose: str
):
    private = simple_policy().changed(private=whose == "the policy's")
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
    alone = policy(Direct(tier="llm", fallback=False)).changed(private=True)
    gateway = await start(settings_of(upstream(slm, "slm"), *tier), [alone])
    gateway.app.pools["llm"].upstreams[1].probed(False)
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
    gateway = await start(settings_of(*tier), [simple_policy().changed(private=True)])
    status, _, raw = await gateway.post("/embeddings", {"model": "test", "input": "ice"})
    assert (status, len(llm.requests), len(spare.requests)) == ((200, 0, 1) if at_home else (403, 0, 0)), raw


# --- affinity and shadows


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
        [simple_policy().changed(affinity=Affinity(turns=2))],
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
        [simple_policy().changed(affinity=Affinity(turns=2))],
    )
    slm.says(Reply(status=500), Reply(SENTENCE, logprobs=SURE))
    assert (await gateway.post("/chat/completions", turn("a")))[1]["x-smallfirst-reason"] == "no_slm"
    assert (await gateway.post("/chat/completions", turn("a", "b", "c")))[1]["x-smallfirst-route"] == "slm"


async def test_a_shadow_is_recorded_beside_the_answer_and_nobody_gets_it(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    other = policy(Direct(tier="llm")).changed(name="large-only")
    shadowed = simple_policy().changed(shadow=Shadow(policy="large-only", share=1.0))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [shadowed, other])
    slm.says(Reply(SENTENCE, logprobs=SURE))
    text, _, raw = await streamed(gateway, ASK)
    assert text == SENTENCE
    await asyncio.wait_for(llm.arrived.wait(), 2)
    shadow = await until(gateway, lambda found: found["shadow_of"] == figures_of(raw)["id"])
    assert (shadow["policy"], shadow["route"], shadow["stream"]) == ("large-only", "llm", False)
    _, metrics = await metrics_of(gateway)
    assert 'smallfirst_requests_total{endpoint="chat",policy="large-only"' not in metrics
    assert 'smallfirst_upstream_calls_total{outcome="ok",tier="llm"' in metrics


async def test_embeddings_have_no_shadow(start: StartGateway, slm: Scripted, llm: Scripted):
    other = policy(Direct(tier="llm")).changed(name="large-only")
    shadowed = simple_policy().changed(shadow=Shadow(policy="large-only", share=1.0))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [shadowed, other])
    slm.says(Reply(SENTENCE, logprobs=SURE))
    assert (await gateway.post("/embeddings", {"model": "test", "input": "ice"}))[0] == 200
    _, headers, _ = await gateway.post("/chat/completions", ASK)
    await until(gateway, lambda found: found["shadow_of"] == headers["x-smallfirst-id"])
    assert len(gateway.app.exchanges.ids()) == 3
    assert len(llm.requests) == 1


async def test_a_shadow_that_is_down_or_private_disturbs_nobody(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    other = policy(Direct(tier="llm", fallback=False)).changed(name="large-only")
    shadowed = simple_policy().changed(shadow=Shadow(policy="large-only", share=1.0))
    gateway = await start(
        settings_of(upstream(slm, "slm"), upstream(llm, "llm", cloud=True)), [shadowed, other]
    )
    slm.says(Reply(SENTENCE, logprobs=SURE))
    llm.says(Reply(status=500))
    for own in ({}, {"smallfirst": {"private": True}}):
        status, headers, _ = await gateway.post("/chat/completions", ASK | own)
        assert status == 200
        shadow = await until(gateway, lambda found: found["shadow_of"] == headers["x-smallfirst-id"])  # noqa: B023
        assert shadow["error"] == ("private" if own else "upstream_error")
    assert len(llm.requests) == 1


async def metrics_of(gateway: Gateway) -> tuple[int, str]:
    async with gateway.http.get(f"{gateway.root}/metrics") as response:
        return response.status, await response.text()


async def until(gateway: Gateway, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first exchange that is as wanted, once there is one."""
    async with asyncio.timeout(3):
        while True:
            for name in gateway.app.exchanges.ids():
                if wanted(found := await gateway.exchange(name)):
                    return found
            await gateway.get("/health/live")
