"""POST /v1/evaluate: what evaluators find, of one answer or many, and what is said of a request they can't read."""

import asyncio
import json
from typing import Any

import pytest
from support.gateways import Gateway, StartGateway, settings_of, simple_policy, upstream
from support.judge_replies import said, samples
from support.scripted_server import Reply, Scripted
from support.waiting import soon

from policies.schema.ceilings import Ceilings

ASKED = {"input": "What is 2 + 2?", "output": "It is 4."}
CLOUD = {"cloud": True}


async def evaluate(gateway: Gateway, **body: Any) -> dict[str, Any]:
    status, _, raw = await gateway.post("/evaluate", body)
    found = json.loads(raw)
    assert status == 200, found
    return dict(found)


async def results(gateway: Gateway, *evaluators: Any, **body: Any) -> list[dict[str, Any]]:
    (row,) = (await evaluate(gateway, evaluators=list(evaluators), **(ASKED | body)))["data"]
    return list(row["results"])


async def refusal(gateway: Gateway, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    status, _, raw = await gateway.post("/evaluate", body)
    return status, json.loads(raw)["error"]


@pytest.fixture
async def judge(start: StartGateway, slm: Scripted, llm: Scripted) -> Gateway:
    return await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm", **CLOUD)))


async def test_each_evaluator_finds_something_in_turn(judge: Gateway, slm: Scripted):
    slm.says(
        said(yes=0.6, no=0.2),
        said(no=0.5, yes=0.3),
        said(_1=0.1, _4=0.3, _5=0.4),
        samples("It's 4", "5", "the answer: 4.0", ""),
    )
    agreeing = {"kind": "agree", "samples": 4, "compare": "number"}
    whole = await evaluate(
        judge, evaluators=["verify", {"kind": "rate", "rubric": "correctness"}, agreeing], **ASKED
    )
    (row,) = whole["data"]
    verified, rated, agreed = row["results"]
    assert verified["p"] == pytest.approx((0.75 + 0.375) / 2)
    assert verified["mass"] == pytest.approx(0.8)
    assert (verified["tier"], verified["upstream"], verified["model"]) == ("slm", "small-server", "small")
    assert rated["evaluator"] == "rate:correctness"
    assert rated["score"] == pytest.approx((0.1 * 1 + 0.3 * 4 + 0.4 * 5) / 0.8)
    assert rated["p"] == pytest.approx((rated["score"] - 1) / 4)
    assert (agreed["evaluator"], agreed["p"]) == ("agree:number", 0.5)
    first, second, scale, sampling = slm.requests
    assert first["messages"][0]["content"].endswith("Reply with one word, yes or no.")
    assert second["messages"][0]["content"].endswith("Reply with one word, no or yes.")
    assert scale["messages"][0]["content"].endswith("Reply with one number from 1 to 5.")
    assert {one["max_tokens"] for one in (first, second, scale)} == {1}
    assert (sampling["n"], sampling["temperature"]) == (4, 1.0)
    assert sampling["messages"] == [{"role": "user", "content": "What is 2 + 2?"}]
    assert row["usage"] == whole["usage"]
    assert whole["usage"]["prompt_tokens"] == 40
    found = await judge.exchange(row["id"])
    assert (found["aside"], [call["ask"] for call in found["calls"]]) == ("evaluate", ["judge"] * 4)
    async with judge.http.get(f"{judge.root}/metrics") as response:
        counted = 'endpoint="evaluate",policy="evaluate",reason="evaluate",route="none",status="200"} 1.0'
        assert counted in await response.text()


async def test_entailment_is_judged_of_each_sample(judge: Gateway, slm: Scripted):
    slm.says(samples("two and two make 4", "5"), said(yes=0.9, no=0.1), said(yes=0.2, no=0.6))
    (found,) = await results(judge, {"kind": "agree", "samples": 2, "compare": "entailment"})
    assert found["p"] == pytest.approx((0.9 + 0.25) / 2)
    assert "two and two make 4" in slm.requests[1]["messages"][0]["content"]
    assert "It is 4." in slm.requests[2]["messages"][0]["content"]


async def test_structure_is_checked_without_a_model(judge: Gateway, slm: Scripted, llm: Scripted):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"required": ["a"]}}}
    structure = {"kind": "structure", "response_format": form}
    for output, flaw in (('{"a": 1}', None), ("{}", "schema_mismatch"), ("a: 1", "invalid_json")):
        assert await results(judge, structure, output=output) == [
            {"evaluator": "structure", "score": float(flaw is None), "p": float(flaw is None), "flaw": flaw}
        ]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"required": ["a"]}}}
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    (found,) = await results(judge, {"kind": "structure", "tools": [tool]}, output=message)
    assert found["flaw"] == "tool_arguments"
    assert slm.requests == llm.requests == []


async def test_a_batch_is_judged_item_by_item(judge: Gateway, slm: Scripted):
    slm.says(said(_5=0.5, _1=0.5))
    items = [ASKED, {"messages": [{"role": "user", "content": "Hi"}], "output": "Ho", "context": "Hm"}]
    grounded = {"kind": "rate", "rubric": "helpfulness"}
    found = await evaluate(judge, items=items, evaluators=[grounded], tier="slm")
    assert [row["index"] for row in found["data"]] == [0, 1]
    assert len({row["id"] for row in found["data"]}) == 2
    assert [row["results"][0]["score"] for row in found["data"]] == [3.0, 3.0]


async def test_what_stands_in_an_answer_is_never_taken_for_the_questions(judge: Gateway, slm: Scripted):
    slm.says(said(_5=1.0))
    rubric = {"name": "mine", "text": "{context}|{answer}|{request}", "scale": 5}
    texts = {"output": "{request} {context}", "context": "{answer}", "input": "Q"}
    await results(judge, {"kind": "rate", "rubric": rubric}, **texts)
    asked = slm.requests[0]["messages"][0]["content"]
    assert asked.startswith("{answer}|{request} {context}|Q\n")


async def test_the_tier_or_the_model_that_judges_may_be_named(judge: Gateway, slm: Scripted, llm: Scripted):
    for server in (slm, llm):
        server.says(said(yes=1.0))
    assert (await results(judge, "verify", tier="llm"))[0]["upstream"] == "large-server"
    assert (await results(judge, "verify", model="large"))[0]["tier"] == "llm"
    (mixed,) = await results(judge, {"kind": "verify", "tier": "slm"}, tier="llm")
    assert mixed["tier"] == "slm"


async def test_one_that_fails_says_so_beside_those_that_do_not(judge: Gateway, slm: Scripted):
    slm.says(said(_3=1.0), Reply(status=500))
    rated, failed = await results(judge, {"kind": "rate", "rubric": "toxicity"}, "verify")
    assert rated["score"] == 3.0
    assert failed["error"]["code"] == "upstream_error"


async def test_where_nobody_can_judge_that_is_the_answer(start: StartGateway, slm: Scripted):
    alone = await start(settings_of(upstream(slm, "slm")))
    status, error = await refusal(alone, ASKED | {"evaluators": ["verify"], "tier": "llm"})
    assert (status, error["code"]) == (503, "no_upstream")
    slm.says("It has no log-probabilities of labels.")
    status, error = await refusal(alone, ASKED | {"evaluators": ["verify"]})
    assert (status, error["code"]) == (502, "upstream_garbage")


async def test_what_is_private_is_judged_at_home(judge: Gateway, llm: Scripted):
    body = ASKED | {"evaluators": ["verify"], "tier": "llm", "smallfirst": {"private": True}}
    status, error = await refusal(judge, body)
    assert (status, error["code"]) == (403, "private")
    assert llm.requests == []


async def test_a_client_that_goes_away_frees_its_judge(judge: Gateway, slm: Scripted):
    slm.says(Reply("yes", gate=asyncio.Event()))
    asking = asyncio.ensure_future(judge.post("/evaluate", ASKED | {"evaluators": ["verify"]}))
    await soon(slm.holding.wait())
    asking.cancel()
    await soon(slm.gone.wait())


@pytest.mark.parametrize(
    ("change", "param", "message"),
    [
        ({"evaluators": None}, "evaluators", "evaluators is required: a list"),
        ({"evaluators": []}, "evaluators", "must hold 1 to 8, not 0"),
        (
            {"evaluators": ["vote"]},
            "evaluators[0]",
            "expected one of the kinds verify, rate, agree, structure",
        ),
        ({"evaluators": [3]}, "evaluators[0]", "must be an evaluator's name, or an object with its kind"),
        ({"evaluators": [{"kind": "rate"}]}, "evaluators[0].rubric", "Field required"),
        (
            {"evaluators": ["verify", {"kind": "rate", "rubric": "charm"}]},
            "evaluators[1].rubric",
            "expected a rubric's name (correctness, groundedness, helpfulness, refusal, toxicity) or one, "
            "found 'charm'",
        ),
        (
            {"evaluators": [{"kind": "rate", "rubric": {"name": "a", "text": "{answer} {tone}"}}]},
            "evaluators[0].rubric.text",
            "expected only the fields {request}, {answer}, {context}, found {tone}",
        ),
        (
            {"evaluators": [{"kind": "rate", "rubric": "groundedness"}]},
            "context",
            "evaluators[0] (rate:groundedness) names {context}: expected context, a string",
        ),
        (
            {"evaluators": [{"kind": "agree", "samples": 99}]},
            "evaluators[0].samples",
            "less than or equal to 16",
        ),
        ({"output": ""}, "output", "output is empty: verify needs a text"),
        ({"output": None}, "output", "output is required: a string, or an assistant's message"),
        ({"output": {"tool_calls": [{}]}}, "output", "a message in the chat endpoint's shape"),
        ({"input": None}, "input", "input must be a string, not null"),
        ({"messages": []}, "messages", "messages, or input, is required"),
        ({"context": 3}, "context", "context must be a string"),
        ({"tier": "mlm"}, "tier", "tier must be 'slm' or 'llm', not 'mlm'"),
        ({"model": "none"}, "model", "no upstream serves the model 'none'; there are: large, small"),
        ({"modle": "small"}, "modle", "modle is not known here; expected items, evaluators, tier, model"),
        ({"items": []}, "input", "input is not known here"),
    ],
)
async def test_a_request_that_cannot_be_read_is_told_where_and_what_was_expected(
    judge: Gateway, change: dict[str, Any], param: str, message: str
):
    status, error = await refusal(judge, {"evaluators": ["verify"], **ASKED, **change})
    assert (status, error["param"]) == (404 if param == "model" else 400, param)
    assert message in error["message"]


async def test_an_item_that_cannot_be_read_is_told_by_its_place(judge: Gateway):
    for items, param in (
        ([ASKED, {"input": "a"}], "items[1].output"),
        ([{"output": "a"}], "items[0].messages"),
        ([{"output": "a", "messages": [{}]}], "items[0].messages[0]"),
        ([ASKED | {"contxt": "a"}], "items[0].contxt"),
        (["a"], "items[0]"),
        ([ASKED] * 129, "items"),
    ):
        status, error = await refusal(judge, {"evaluators": ["verify"], "items": items})
        assert (status, error["param"]) == (400, param)
        assert param in error["message"]


# --- what one request may cost


async def test_a_request_that_would_take_too_many_calls_is_refused(judge: Gateway, slm: Scripted):
    sixteen = {"kind": "agree", "samples": 16, "compare": "entailment"}
    body = {"items": [ASKED] * 128, "evaluators": [sixteen, "verify"]}
    status, error = await refusal(judge, body)
    assert (status, error["param"]) == (400, "items")
    assert "128 answers need 2432 upstream calls (19 each)" in error["message"]
    assert slm.requests == []


async def test_the_ceilings_of_a_named_policy_hold_for_all_answers_together(
    start: StartGateway, slm: Scripted
):
    price = {"input": 1000.0, "output": 1000.0}
    policies = [
        simple_policy().replace(name="cheap", ceilings=Ceilings(usd=0.5)),
        simple_policy().replace(name="few", ceilings=Ceilings(calls=3)),
        simple_policy().replace(name="quick", ceilings=Ceilings(seconds=0.2)),
    ]
    gateway = await start(settings_of(upstream(slm, "slm", price=price)), policies)
    slm.says(said(yes=0.6, no=0.2))
    many = {"items": [ASKED] * 20, "evaluators": ["verify"]}
    whole = await evaluate(gateway, **many)
    assert whole["cost_usd"] > 0.2
    limited = named("cheap")
    status, error = await refusal(gateway, many | limited)
    assert (status, error["code"]) == (403, "ceiling_reached")
    assert (await evaluate(gateway, evaluators=["verify"], **ASKED, **limited))["cost_usd"] <= 0.5

    status, error = await refusal(gateway, {"items": [ASKED] * 2, "evaluators": ["verify"]} | named("few"))
    assert (status, error["param"], "one request may need 3" in error["message"]) == (400, "items", True)

    slm.says(Reply("yes", gate=asyncio.Event()))
    status, error = await refusal(gateway, many | named("quick"))
    assert (status, error["code"]) == (403, "ceiling_reached")


async def test_a_policy_that_does_not_exist_is_an_error(judge: Gateway):
    status, error = await refusal(judge, ASKED | {"evaluators": ["verify"]} | named("nobody"))
    assert (status, error["param"]) == (404, "smallfirst.policy")


def named(policy: str) -> dict[str, Any]:
    return {"smallfirst": {"policy": policy}}
