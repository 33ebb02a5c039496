"""Prompts are compressed on their way to the large model, and nowhere else."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.gateways import PRICE, Gateway, StartGateway, settings_of, simple_calibrator, upstream
from support.scoring_vllm import ReaderVllm
from support.scripted_server import Reply, Scripted, scripted
from support.strategy_requests import assert_well_formed, hedge, policy, streamed
from support.waiting import soon, until

from policies.schema.compress import Compress
from policies.schema.policy import Ceilings, Policy, Shadow
from policies.schema.private import Private
from routers.router import Router
from routers.strategies.cascade import Cascade
from routers.strategies.direct import Direct

PROSE = " ".join(f"The {colour} fox sees a {animal} by the river." for colour in ("red", "grey", "white", "black")
                 for animal in ("hen", "goose", "hare", "mouse", "frog", "duck", "crow", "snail"))  # fmt: skip
QUESTION = "Which animals does the grey fox see?"
SYSTEM = "You answer in one short sentence and in English."
MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"{PROSE}\n\n{QUESTION}"}]
ALWAYS = Compress(target_ratio=0.5, min_tokens=10, worth="always")
LLM = Direct(tier="llm", fallback=False)


@pytest.fixture
async def reader() -> AsyncIterator[ReaderVllm]:
    async with scripted("small", ReaderVllm) as server:
        yield server


def compressing(router: Router = LLM, section: Compress = ALWAYS, **more: Any) -> Policy:
    return policy(router, compress=section, **more)


async def started(start: StartGateway, reader: ReaderVllm, *llms: Scripted, **more: Any) -> Gateway:
    policies = more.pop("policies", [compressing()])
    large = [upstream(llm, "llm", **more) for llm in llms]
    return await start(settings_of(upstream(reader, "slm", engine="vllm"), *large), policies)


def asking(**more: Any) -> dict[str, Any]:
    return {"model": "test", "messages": MESSAGES} | more


def told(headers: dict[str, str]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in headers["x-smallfirst-compress"].split(", "))


async def test_the_large_model_reads_half_and_all_that_is_not_to_be_touched(
    start: StartGateway, reader: ReaderVllm, llm: Scripted
):
    gateway = await started(start, reader, llm)
    status, headers, _ = await gateway.post("/chat/completions", asking(temperature=0.5, seed=7))
    assert status == 200
    (sent,) = llm.requests
    assert sent | {"messages": 0} == {"model": "large", "messages": 0, "temperature": 0.5, "seed": 7}
    assert sent["messages"][0] == MESSAGES[0]
    text = sent["messages"][1]["content"]
    assert text.endswith(f"\n\n{QUESTION}")
    assert set(text.replace(".", "").split()) <= set(PROSE.replace(".", "").split()) | set(QUESTION.split())
    before = sum(reader.tokens(str(message["content"])) for message in MESSAGES)
    after = reader.tokens(SYSTEM) + reader.tokens(text)
    found = told(headers)
    assert (int(found["tokens_before"]), int(found["tokens_after"])) == (before, after)
    assert after == pytest.approx(before / 2, rel=0.05)
    assert float(found["saved_usd"]) == pytest.approx((before - after) * PRICE["input"] / 1e6, rel=0.01)

    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    assert exchange["skills"]["compress"]["tokens_after"] == after
    assert [(call["tier"], call["because"]) for call in exchange["calls"]] == [
        ("slm", "compressed"),
        ("llm", "policy"),
    ]
    assert exchange["llm_alone_usd"] > exchange["cost_usd"]

    text, chunks, _ = await streamed(gateway, asking())
    assert text == "It is cold."
    assert_well_formed(chunks)
    assert llm.requests[1]["messages"] == sent["messages"]

    await gateway.post("/completions", {"model": "test", "prompt": f"{PROSE}\n\n{QUESTION}"})
    assert llm.requests[2]["prompt"].endswith(f"\n\n{QUESTION}")
    assert len(llm.requests[2]["prompt"]) < 0.6 * len(PROSE)


async def test_one_reading_serves_retries_and_shadows_and_drafts_see_all(
    start: StartGateway, reader: ReaderVllm, llm: Scripted, spare: Scripted
):
    cascade = Cascade(accept=0.5, commit=0.9, give_up=0.1, calibrator=simple_calibrator(engine="vllm"))
    shadow = compressing().replace(name="shadow")
    policies = [compressing(cascade, shadow=Shadow(policy="shadow", share=1.0)), shadow]
    gateway = await started(start, reader, llm, spare, policies=policies)
    reader.says(Reply("It is a draft.", logprobs=-3.0))
    llm.says(Reply(status=500), Reply("It is late."))
    status, headers, _ = await gateway.post("/chat/completions", asking())
    assert (status, headers["x-smallfirst-reason"]) == (200, "low_confidence")
    assert reader.requests[0]["messages"] == MESSAGES
    await until(lambda: len(llm.requests) + len(spare.requests) >= 3)
    sent = [request["messages"] for request in llm.requests + spare.requests]
    assert sent == [sent[0]] * 3
    assert sent[0] != MESSAGES
    assert sum(PROSE[:40] in read for read in reader.reads) <= 3  # a sample, alone, after the question


@pytest.mark.parametrize(
    ("section", "slm", "why"),
    [
        ({"min_tokens": 5000}, {}, "short"),
        ({"target_ratio": None, "target_tokens": 9000}, {}, "fits"),
        ({"worth": "both"}, {"scored": 0.03}, "costs_time"),
        ({"worth": "money", "seconds": 1e6}, {"scored": 9.0, "per_hour": 9.0}, "costs_money"),
        ({"worth": "always", "seconds": 1.0}, {"scored": 9.0}, "takes_too_long"),
        ({}, {"status": 500}, "error"),
        ({}, {"engine": "openai"}, "incapable"),
    ],
)
async def test_what_is_not_worth_it_or_fails_leaves_the_prompt_as_it_is(
    start: StartGateway,
    reader: ReaderVllm,
    llm: Scripted,
    section: dict[str, Any],
    slm: dict[str, Any],
    why: str,
):
    asked = ALWAYS.model_copy(update=section)
    price = {"price": {"per_hour": slm["per_hour"]}} if "per_hour" in slm else {}
    small = upstream(reader, "slm", engine=slm.get("engine", "vllm"), **price)
    gateway = await start(settings_of(small, upstream(llm, "llm")), [compressing(section=asked)])
    gateway.upstream("slm").latency.scoring_s_per_token = slm.get("scored")
    reader.status = slm.get("status", 200)
    status, headers, _ = await gateway.post("/chat/completions", asking())
    assert status == 200
    found = told(headers)
    assert found["why"] == why
    assert llm.requests[0]["messages"] == MESSAGES
    if "scored" in slm:
        assert float(found["estimated_seconds"]) > 1
        assert reader.reads == []


async def test_time_is_weighed_by_what_this_large_model_took_and_not_by_an_assumption(
    start: StartGateway, reader: ReaderVllm, llm: Scripted
):
    gateway = await started(
        start, reader, llm, policies=[compressing(section=ALWAYS.model_copy(update={"worth": "both"}))]
    )
    gateway.upstream("slm").latency.scoring_s_per_token = 1e-7
    _, headers, _ = await gateway.post("/chat/completions", asking())
    assert told(headers)["why"] == "unmeasured"
    assert llm.requests[0]["messages"] == MESSAGES
    gateway.upstream("llm").latency.record_call(900, 0, 3.0)
    _, headers, _ = await gateway.post("/chat/completions", asking())
    assert "why" not in told(headers)
    assert float(told(headers)["estimated_spared_seconds"]) > 0.1
    gateway.upstream("slm").latency.scoring_s_per_token = 0.03
    _, headers, _ = await gateway.post("/chat/completions", asking(seed=8))
    assert told(headers)["why"] == "costs_time"


async def test_the_account_says_what_was_dropped(start: StartGateway, reader: ReaderVllm, llm: Scripted):
    gateway = await started(start, reader, llm)
    _, headers, _ = await gateway.post("/chat/completions", asking())
    account = (await gateway.exchange(headers["x-smallfirst-id"]))["skills"]["compress"]
    sent = llm.requests[0]["messages"][1]["content"]
    words = [
        len(text.replace(".", " .").replace("?", " ?").split()) for text in (MESSAGES[1]["content"], sent)
    ]
    assert account["words_dropped"] == words[0] - words[1] > 0
    (text,) = account["dropped"]
    assert (text["text"], text["words_dropped"]) == ("messages[1].content", account["words_dropped"])
    assert text["sentences_dropped"] == account["sentences_dropped"] == PROSE.count(".") - sent.count(".")
    assert told(headers)["words_dropped"] == str(account["words_dropped"])


async def test_a_reading_that_hangs_costs_no_answer(start: StartGateway, reader: ReaderVllm, llm: Scripted):
    hurried = compressing(ceilings=Ceilings(seconds=4.0, calls=1))
    gateway = await started(start, reader, llm, policies=[hurried])
    gateway.upstream("slm").latency.scoring_s_per_token = 1e-6
    reader.gate = asyncio.Event()
    status, headers, _ = await gateway.post("/chat/completions", asking())
    assert (status, told(headers)["why"]) == (200, "timeout")
    assert llm.requests[0]["messages"] == MESSAGES


async def test_of_retrieved_passages_the_request_itself_is_not_touched(
    start: StartGateway, reader: ReaderVllm, llm: Scripted
):
    gateway = await started(start, reader, llm)
    asked = "I have read of foxes.\n\nThey were not all red.\n\n" + QUESTION
    passages = [{"id": "doc-a", "text": PROSE[:800]}, {"id": "doc-b", "text": PROSE[800:]}]
    body = {
        "model": "test",
        "messages": [{"role": "user", "content": asked}],
        "smallfirst": {"context": passages},
    }
    status, headers, _ = await gateway.post("/chat/completions", body)
    assert (status, "why" in told(headers)) == (200, False)
    text = llm.requests[0]["messages"][0]["content"]
    assert text.endswith(f"\n\n{asked}")
    assert len(text) < 0.6 * len(PROSE + asked)
    assert "\n\n[doc-b] " in text


async def test_what_is_private_is_not_taken_apart_before_it_is_hidden(
    start: StartGateway, reader: ReaderVllm, llm: Scripted
):
    pytest.importorskip("presidio_analyzer", reason="smallfirst[privacy] is not installed")
    private = Private(action="redact", entities=(), patterns={"ANIMAL": r"(?:black|red) fox sees a \w+"})
    gateway = await started(start, reader, llm, policies=[compressing(private=private)], cloud=True)
    status, headers, _ = await gateway.post("/chat/completions", asking())
    assert status == 200
    text = llm.requests[0]["messages"][1]["content"]
    assert text.count("<ANIMAL_") == 16
    assert "red" not in text.split()
    assert "why" in told(headers) or int(told(headers)["tokens_after"]) < int(told(headers)["tokens_before"])


async def test_a_race_won_while_the_other_leg_is_read_for_replays(
    start: StartGateway, reader: ReaderVllm, llm: Scripted
):
    hedging = hedge(calibrator=simple_calibrator(engine="vllm")).router
    gateway = await started(start, reader, llm, policies=[compressing(hedging)])
    reader.gate = asyncio.Event()
    status, headers, _ = await gateway.post("/chat/completions", asking())
    assert (status, headers["x-smallfirst-route"]) == (200, "slm")
    assert llm.requests == []


async def test_a_client_that_leaves_ends_the_reading(start: StartGateway, reader: ReaderVllm, llm: Scripted):
    gateway = await started(start, reader, llm)
    reader.gate = asyncio.Event()
    asked = asyncio.ensure_future(gateway.post("/chat/completions", asking()))
    await soon(reader.holding.wait())
    asked.cancel()
    await until(gateway.app.exchanges.ids)
    assert llm.requests == []
