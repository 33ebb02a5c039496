"""Every strategy live: the engine performs its plan against scripted servers, and its record replays."""

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
    assert_well_formed,
    figures_of,
    hedge,
    policy,
    streamed,
    text_of,
)
from support.waiting import soon

from gateway.upstreams.resilience.breaker import FAILURES_TO_OPEN
from routers.judges.draft_judge import Verify
from routers.strategies.difficulty import Difficulty, Gate

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
    await soon(llm.gone.wait())
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
    await soon(slm.gone.wait())
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
    await soon(slm.gone.wait())
    gate.set()
    _, headers, raw = await asking
    assert text_of(raw) == "It is cold, yes."
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("llm", "gave_up")
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
    await soon(asyncio.gather(slm.gone.wait(), llm.gone.wait()))


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
        llm.says(reply, reply, "It is cold, yes.")
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
        for _ in range(FAILURES_TO_OPEN - 1):
            breaker.record_failure()
        llm.says(reply)
        await gateway.post("/chat/completions", ASK)
        assert breaker.is_open is opens
        if not opens:
            breaker.record_success()


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
