"""Private data stays at home, is refused, or is redacted: what a cloud stand-in receives, whatever the strategy."""

import asyncio
import json
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from support.gateways import ONCE, Gateway, StartGateway, settings_of, simple_calibrator, upstream
from support.judge_replies import said
from support.private_values import EXAMPLES
from support.scripted_server import Reply, Scripted
from support.strategy_requests import chunks_of, policy, streamed
from support.waiting import until
from typer.testing import CliRunner

from gateway.cli import app
from gateway.skills.privacy import recognizers
from gateway.skills.privacy.detection import Detector, ScanTimeout, get_detector
from policies.schema.evaluate import Evaluate
from policies.schema.policy import Policy, Shadow
from policies.schema.private import ENTITIES, Private
from policies.schema.split import Split
from routers.judges.draft_judge import Verify
from routers.strategies.cascade import Cascade
from routers.strategies.difficulty import Difficulty
from routers.strategies.direct import Direct
from routers.strategies.hedge import Hedge
from routers.strategies.speculative import Speculative

pytest.importorskip("presidio_analyzer", reason="smallfirst[privacy] is not installed")

MAIL, CARD, IBAN = EXAMPLES["EMAIL_ADDRESS"], EXAMPLES["CREDIT_CARD"], EXAMPLES["IBAN_CODE"]
CANARIES = (MAIL, CARD, IBAN)


@pytest.fixture(scope="module", autouse=True)
def offline() -> None:
    """Nothing is asked over the network, the list of public suffixes included."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("something asks the network")

    recognizers.load_recognizers.cache_clear()
    get_detector.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", refuse)
        patch.setattr(socket.socket, "connect", refuse)
        every = get_detector(Private(action="block", entities=tuple(ENTITIES)))
        every.find(f"{MAIL} www.example.co.uk")


def values(private: Private, text: str) -> list[str]:
    return [found.value for found in get_detector(private).find(text)]


def test_each_entity_is_found_without_words_around_it_and_without_the_network():
    assert EXAMPLES.keys() == ENTITIES.keys()
    for entity, example in EXAMPLES.items():
        assert values(Private(action="block", entities=(entity,)), f"it is {example}, she said") == [example]


def test_a_wrong_checksum_is_not_private_and_long_texts_are_looked_through_whole():
    private = Private(action="block")
    assert values(private, "4111 1111 1111 1112, DE88 3704 0044 0532 0130 00, a@b, version 1.2.3") == []
    for size in (8192 - 10, 8192, 30_000):
        assert values(private, f"{'w1, ' * (size // 4)}{MAIL} {'12, ' * 5000}{IBAN}") == [MAIL, IBAN]


def test_own_patterns_find_and_none_can_hang_the_gateway(monkeypatch: pytest.MonkeyPatch):
    private = Private(action="block", entities=(), patterns={"TICKET": r"SF-\d+"})
    assert values(private, "see SF-1234, SF-9") == ["SF-1234", "SF-9"]
    monkeypatch.setattr(recognizers, "PATIENCE_S", 0.05)
    began = time.process_time()
    with pytest.raises(ScanTimeout):
        Detector(Private(action="block", entities=(), patterns={"BAD": r"(a|aa)+$"})).find("a" * 60 + "b")
    with pytest.raises(ScanTimeout):
        get_detector(private).find("x", deadline=0.0)
    assert time.process_time() - began < 1


# --- through the gateway


SURE, UNSURE, HOPELESS = -0.01, -1.2, -9.0
TOLD = f"Write to {MAIL}, card {CARD}, account {IBAN}."
CLOAKED = "Write to <EMAIL_ADDRESS_1>, card <CREDIT_CARD_1>, account <IBAN_CODE_1>."
ASK: dict[str, Any] = {
    "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": f"Repeat: {TOLD}"}],
    "user": MAIL,
    "temperature": 0,
}
CASCADE: dict[str, Any] = {"accept": 0.5, "commit": 0.9, "give_up": 0.1, "calibrator": simple_calibrator()}
STRATEGIES: dict[str, Any] = {
    "direct": Direct(tier="llm"),
    "small": Direct(tier="slm"),
    "cascade": Cascade(**CASCADE),
    "splice": Cascade(**CASCADE, release="splice"),
    "judged": Cascade(**CASCADE | {"release": "hold", "judge": Verify(tier="llm")}),
    "difficulty": Difficulty(gate={"limits": {"log_length": 0.0}}),
    "hedge": Hedge(**CASCADE),
    "probe": Speculative(rule={"kind": "probe", "accept": 0.9}, otherwise=Cascade(**CASCADE)),
    "greedy": Speculative(otherwise=Cascade(**CASCADE)),
}
FAST = {"retries": 0, "first_token": 0.03, "whole": 0.03, "gap": 0.03}


def policies(**private: Any) -> list[Any]:
    section = Private(entities=("EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE"), **private)
    made = [
        Policy(name=name, description="For tests.", router=router, private=section)
        for name, router in STRATEGIES.items()
    ]
    open_ = policy(Direct(tier="llm")).replace(name="open")
    shadowed = policy(Direct(tier="slm"), private=section).replace(
        name="shadowed", shadow=Shadow(policy="open", share=1.0)
    )
    divided = Split(name="split", description="x", split={"between": {"direct": 1, "cascade": 1}})  # type: ignore[arg-type]
    return [*made, open_, shadowed, divided]


NAMES = [*STRATEGIES, "shadowed", "split"]


def small_faults() -> list[Reply]:
    words = len(TOLD.split(" "))
    return [
        Reply(TOLD, logprobs=SURE),
        Reply(TOLD, logprobs=UNSURE),
        Reply(f"{TOLD} Well now. And so on and so on.", logprobs=[SURE] * words + [HOPELESS] * 8),
        Reply(TOLD, logprobs=HOPELESS),
        Reply(status=500),
        Reply(TOLD, logprobs=SURE, cut_at=4),
        Reply(TOLD, gate=asyncio.Event(), gate_at=2),
    ]


def large_faults() -> list[Reply]:
    return [Reply(CLOAKED), Reply(CLOAKED, cut_at=3), Reply(status=500), Reply(body={"nothing": MAIL[:3]})]


def received(server: Scripted) -> str:
    return json.dumps([server.requests, server.headers, server.paths, server.queries, server.looks])


def assert_clean(server: Scripted) -> None:
    """No canary, with or without its spaces, in anything that the server got."""
    got = received(server)
    for canary in CANARIES:
        assert canary not in got
        assert canary.replace(" ", "") not in got.replace(" ", "")


async def both(
    start: StartGateway, slm: Scripted, llm: Scripted, limits: dict[str, float] = ONCE, **private: Any
) -> Gateway:
    able = {"prefill": True, "scoring": True, "prediction": True, "logprobs": True}
    cloud = upstream(llm, "llm", cloud=True, capabilities=able, limits=limits)
    return await start(settings_of(upstream(slm, "slm", limits=limits), cloud), policies(**private))


async def metrics(gateway: Gateway) -> str:
    async with gateway.http.get(f"{gateway.root}/metrics") as response:
        return await response.text()


async def settled(gateway: Gateway) -> None:
    """Once nothing is under way, shadows included."""
    upstreams = [one for pool in gateway.app.pools.values() for one in pool.upstreams]
    await asyncio.sleep(0.005)
    await until(lambda: not any(one.load for one in upstreams))


def well(gateway: Gateway) -> None:
    """No breaker rests: each fault is met anew."""
    for pool in gateway.app.pools.values():
        for one in pool.upstreams:
            one.breaker.record_success()


async def test_no_strategy_and_no_fault_lets_a_cloud_see_a_byte_of_what_stays(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await both(start, slm, llm, FAST, action="stay_local")
    for name in NAMES:
        for number, fault in enumerate(small_faults()):
            slm.says(fault)
            well(gateway)
            body = ASK | {"model": name, "stream": bool(number % 2)}
            status, _, raw = await gateway.post("/chat/completions", body)
            assert status == 200 or json.loads(raw)["error"]["code"] != "internal_error", raw
    await settled(gateway)
    assert llm.requests == []
    assert llm.looks == []


async def test_a_cloud_sees_placeholders_whatever_the_strategy_and_the_fault(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await both(start, slm, llm, FAST, action="redact")
    for name in NAMES:
        for number, fault in enumerate(small_faults()):
            for other in large_faults()[: 4 if number in (1, 2) else 1]:
                stream = bool(number % 2) ^ (other.cut_at is None)
                slm.says(fault)
                llm.says(other)
                well(gateway)
                body = ASK | {"model": name, "stream": stream}
                status, headers, raw = await gateway.post("/chat/completions", body)
                assert status == 200 or json.loads(raw)["error"]["code"] != "internal_error", raw
                if headers.get("x-smallfirst-route") == "llm" and other.cut_at is None and not stream:
                    assert json.loads(raw)["choices"][0]["message"]["content"] == TOLD
                assert b"<EMAIL" not in raw
    await settled(gateway)
    assert_clean(llm)
    assert {"/v1/chat/completions"} == set(
        llm.paths
    )  # scoring goes by token ids, and tokens can't be looked into
    assert received(llm).count("<EMAIL_ADDRESS_1>") > 100
    assert any(TOLD in json.dumps(body) for body in slm.requests)  # who is at home gets the originals


async def test_originals_come_back_in_streams_and_tool_calls_however_they_are_cut(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await both(start, slm, llm, action="redact")
    llm.says(Reply("|".join(CLOAKED), separator="|"))
    text, chunks, raw = await streamed(gateway, ASK | {"model": "direct"})
    assert text == TOLD
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    tools = [{"type": "function", "function": {"name": "send", "description": f"to {MAIL}"}}]
    llm.says(Reply(calls=[("send", '{"to": "<EMAIL_ADDRESS_1>", "body": "<NONE_1> <IBAN_CODE_1>"}')]))
    for stream in (False, True):
        body = ASK | {"model": "direct", "tools": tools, "stream": stream}
        _, headers, raw = await gateway.post("/chat/completions", body)
        assert {"to": MAIL, "body": f"<NONE_1> {IBAN}"} == json.loads(arguments_of(raw, stream))
        assert headers["x-smallfirst-private"] == "action=redact, found=3"
    assert_clean(llm)
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    assert exchange["skills"]["private"]["entities"] == {"EMAIL_ADDRESS": 1, "CREDIT_CARD": 1, "IBAN_CODE": 1}
    status, _, raw = await gateway.post(
        "/responses", {"model": "direct", "input": TOLD, "metadata": {"a": MAIL}}
    )
    assert status == 200
    status, _, raw = await gateway.post("/completions", {"model": "direct", "prompt": TOLD, "suffix": MAIL})
    await gateway.post("/embeddings", {"model": "direct", "input": [TOLD, MAIL]})
    assert_clean(llm)
    assert len(llm.requests) == 6


def arguments_of(raw: bytes, stream: bool) -> str:
    if not stream:
        return str(json.loads(raw)["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"])
    calls = [
        call
        for chunk in chunks_of(raw)
        for one in chunk["choices"]
        for call in one["delta"].get("tool_calls", ())
    ]
    return "".join(call["function"].get("arguments", "") for call in calls)


async def test_what_is_blocked_is_named_and_never_quoted(start: StartGateway, slm: Scripted, llm: Scripted):
    gateway = await both(start, slm, llm, action="block")
    status, _, raw = await gateway.post("/chat/completions", ASK | {"model": "small"})
    error = json.loads(raw)["error"]
    assert (status, error["code"], error["param"]) == (403, "private_data", "messages[1].content")
    assert (
        "messages[1].content holds CREDIT_CARD, EMAIL_ADDRESS, IBAN_CODE, user holds EMAIL_ADDRESS"
        in error["message"]
    )
    assert not any(canary in raw.decode() for canary in CANARIES)
    assert slm.requests == llm.requests == []


async def test_what_cannot_be_redacted_goes_to_a_server_at_home_beside_the_cloud(
    start: StartGateway, slm: Scripted, llm: Scripted, spare: Scripted
):
    section = Private(action="redact", entities=("EMAIL_ADDRESS",))
    home = upstream(spare, "llm", cloud=False, priority=1)
    gateway = await start(
        settings_of(upstream(slm, "slm"), upstream(llm, "llm", cloud=True), home),
        [policy(Direct(tier="llm", fallback=False), private=section)],
    )
    picture = [{"type": "image_url", "image_url": {"url": f"https://example.com/{MAIL}"}}]
    for path, body in {
        "/completions": {"prompt": [1, 2, 3]},
        "/chat/completions": {"messages": [{"role": "user", "content": picture}]},
        "/tokenize": {"prompt": MAIL},
    }.items():
        await gateway.post(path, body | {"model": "test"})
    assert llm.requests == []
    assert len(spare.requests) == 2
    assert spare.requests[0]["prompt"] == [1, 2, 3]


async def test_a_shadow_under_a_stricter_policy_and_one_under_a_laxer_keep_both_promises(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    strict = policy(Direct(tier="llm"), private=Private(action="stay_local")).replace(name="strict")
    lax = policy(Direct(tier="slm"), shadow=Shadow(policy="strict", share=1.0)).replace(name="lax")
    hiding = policy(
        Direct(tier="slm"), private=Private(action="redact"), shadow=Shadow(policy="lax2", share=1.0)
    )
    open_ = policy(Direct(tier="llm")).replace(name="lax2")
    gateway = await start(
        settings_of(upstream(slm, "slm"), upstream(llm, "llm", cloud=True)), [strict, lax, hiding, open_]
    )
    for name in ("lax", "test"):
        assert (await gateway.post("/chat/completions", ASK | {"model": name}))[0] == 200
        await asyncio.sleep(0.05)
        await settled(gateway)
    assert_clean(llm)
    assert len(llm.requests) == 1


@pytest.mark.parametrize("name", ["small", "cascade", "hedge"])
@pytest.mark.parametrize(("action", "outcome"), [("stay_local", "failed"), ("redact", "done")])
async def test_an_evaluation_in_the_background_shows_a_cloud_no_more_than_the_answer_did(
    start: StartGateway, slm: Scripted, llm: Scripted, name: str, action: Any, outcome: str
):
    """Its judge in the cloud would read the request, and an answer that repeats it."""
    judges = {"share": 1, "evaluators": [{"kind": "verify", "tier": "llm"}, {"kind": "agree", "tier": "llm"}]}
    section = Private(action=action, entities=("EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE"))
    judged = policy(STRATEGIES[name], private=section, evaluate=Evaluate.model_validate(judges))
    slm.says(Reply(TOLD, logprobs=SURE))
    llm.says(said(yes=0.8, no=0.2))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm", cloud=True)), [judged])
    assert (await gateway.post("/chat/completions", ASK | {"model": "test"}))[0] == 200
    line = f'smallfirst_evaluations_total{{outcome="{outcome}",policy="test"}} 1.0'

    async def counted() -> bool:
        return line in await metrics(gateway)

    await until(counted)
    assert_clean(llm)
    assert (action == "redact") == ("<EMAIL_ADDRESS_1>" in received(llm))


async def test_records_hold_no_content_of_what_stays_and_placeholders_of_what_was_redacted(
    start: StartGateway, slm: Scripted, llm: Scripted, tmp_path: Path
):
    served = settings_of(upstream(slm, "slm"), upstream(llm, "llm", cloud=True), records={"content": True})
    made = [
        policy(Cascade(**CASCADE), private=Private(action=action)).replace(name=action)  # type: ignore[arg-type]
        for action in ("stay_local", "redact")
    ]
    gateway = await start(served, made)
    slm.says(Reply(TOLD, logprobs=SURE))
    for name in ("stay_local", "redact"):
        await gateway.post("/chat/completions", ASK | {"model": name})
    slm.says(Reply("Hello.", logprobs=SURE))
    await gateway.post(
        "/chat/completions", {"model": "redact", "messages": [{"role": "user", "content": "Hi"}]}
    )
    await gateway.get("/v1/exchanges/none")
    await asyncio.sleep(0.3)
    lines = [json.loads(line) for path in tmp_path.rglob("*.jsonl") for line in path.read_text().splitlines()]
    stays, redacted, plain = [line for line in lines if line["type"] == "exchange"]
    assert not any(canary in json.dumps(lines) for canary in CANARIES)
    assert (stays["content"], stays["calls"][0]["tokens"]["texts"]) == (None, None)
    assert "<IBAN_CODE_1>" in redacted["content"]["messages"][1]["content"]
    assert redacted["calls"][0]["tokens"]["texts"] is None
    assert plain["calls"][0]["tokens"]["texts"] is not None


async def test_without_the_library_such_a_policy_is_not_served_and_says_what_to_install(
    start: StartGateway, slm: Scripted, llm: Scripted, monkeypatch: pytest.MonkeyPatch
):
    recognizers.load_recognizers.cache_clear()
    monkeypatch.setitem(sys.modules, "presidio_analyzer.predefined_recognizers", None)
    gateway = await both(start, slm, llm, action="redact")
    status, _, raw = await gateway.post("/chat/completions", ASK | {"model": "direct"})
    error = json.loads(raw)["error"]
    assert (status, error["code"]) == (400, "policy_unavailable")
    assert "pip install 'smallfirst[privacy]'" in error["message"]
    assert (await gateway.post("/chat/completions", ASK | {"model": "open"}))[0] == 200


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"action": "hide"}, "stay_local"),
        ({"entities": ["URL"]}, "expected some of EMAIL_ADDRESS"),
        ({"patterns": {"id": "x"}}, "capital letters"),
        ({"patterns": {"ID": "("}}, "expected a regular expression"),
        ({"patterns": {"ID": "x*"}}, "finds nothing at all"),
        ({"patterns": {"ID": "x" * 501}}, "1 to 500 characters"),
        ({"score": 0}, "greater than 0"),
    ],
)
def test_a_section_that_says_nothing_sensible_is_refused(section: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=re.escape(message)):
        Private(**({"action": "redact"} | section))


def test_check_and_explain_tell_what_becomes_of_private_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    far = '{name: far, tier: llm, url: "http://127.0.0.1:9/v1", model: large, cloud: true}'
    near = '{name: near, tier: slm, url: "http://127.0.0.1:9/v1", model: small}'
    (tmp_path / "smallfirst.yaml").write_text(
        f"local: null\nupstreams: [{near}, {far}]\npolicies: {{folder: own}}\n"
    )
    (tmp_path / "own").mkdir()
    for action in ("stay_local", "redact", "block"):
        section = f"private: {{action: {action}, entities: [IBAN_CODE], patterns: {{TICKET: 'SF-[0-9]+'}}}}"
        text = f"description: x\nrouter: {{kind: direct, tier: llm}}\n{section}\n"
        (tmp_path / "own" / f"{action}.yaml").write_text(text)

    def told(*arguments: str) -> str:
        body = json.dumps({"messages": [{"role": "user", "content": TOLD}]}).encode()
        return CliRunner().invoke(app, [*arguments], input=body).output

    assert "policy redact: ok; IBAN_CODE, TICKET are redacted for clouds" in told("check")
    here = "here messages[0].content holds IBAN_CODE"
    assert here in told("policy", "explain", "-", "--policy", "redact")
    stays = told("policy", "explain", "-", "--policy", "stay_local")
    assert here in stays
    assert "llm      none that may see what is private" in stays
    assert "lets in nothing private" in told("policy", "explain", "-", "--policy", "block")
