"""The endpoints beside chat: completions, embeddings, models, exchanges, health, metrics, docs."""

import json
from typing import Any

import openai
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from support.gateways import Gateway, StartGateway, settings_of, simple_policy, upstream
from support.scripted_server import Reply, Scripted

from policies.schema.policy import Policy
from routers.strategies.direct import Direct

ASK = {"model": "test", "messages": [{"role": "user", "content": "What is the opposite of hot?"}]}
PROMPT = {"model": "test", "prompt": "The opposite of hot is"}


def streamed(raw: bytes) -> tuple[str, list[dict[str, Any]]]:
    lines = [line[6:] for line in raw.decode().split("\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    return "".join(chunk["choices"][0]["text"] for chunk in chunks if chunk["choices"]), chunks


async def test_the_official_client_lists_policies_and_models(gateway: Gateway):
    listed = {model.id: model async for model in gateway.client.models.list()}
    assert {"test", "small", "large", "offline", "auto"} <= set(listed)
    assert {name: listed[name].owned_by for name in ("test", "small", "large")} == {
        "test": "smallfirst",
        "small": "small-server",
        "large": "large-server",
    }
    assert all(model.object == "model" and model.created > 0 for model in listed.values())
    for name, model in listed.items():
        assert await gateway.client.models.retrieve(name) == model


async def test_a_models_name_may_hold_a_slash(start: StartGateway, llm: Scripted):
    gateway = await start(settings_of(upstream(llm, "llm", model="openai/gpt-5-mini")))
    assert (await gateway.client.models.retrieve("openai/gpt-5-mini")).id == "openai/gpt-5-mini"
    with pytest.raises(openai.NotFoundError, match=r"there are: .*openai/gpt-5-mini"):
        await gateway.client.models.retrieve("gpt-5-mini")


async def test_a_confident_completion_is_the_small_models(gateway: Gateway, slm: Scripted, llm: Scripted):
    slm.says(Reply("It is cold.", logprobs=-0.01))
    answer = await gateway.client.completions.create(**PROMPT)
    assert answer.object == "text_completion"
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("It is cold.", "stop")
    assert answer.choices[0].logprobs is None
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    assert slm.paths == ["/v1/completions"]
    assert slm.requests[0]["logprobs"] == 5
    assert llm.requests == []


async def test_an_unsure_completion_is_the_large_models(gateway: Gateway, slm: Scripted, llm: Scripted):
    slm.says(Reply("Maybe blue?", logprobs=-1.5))
    llm.says("Cold.")
    status, headers, raw = await gateway.post("/completions", PROMPT)
    assert (status, json.loads(raw)["choices"][0]["text"]) == (200, "Cold.")
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("llm", "low_confidence")
    assert (llm.paths, llm.requests[0]["prompt"]) == (["/v1/completions"], PROMPT["prompt"])


@pytest.mark.parametrize(("logprob", "route"), [(-0.01, "slm"), (-1.5, "llm")])
async def test_a_streamed_completion_is_one_stream(
    gateway: Gateway, slm: Scripted, llm: Scripted, logprob: float, route: str
):
    slm.says(Reply("one two three four five six seven", logprobs=logprob))
    llm.says("one two three four five six seven")
    more = {"stream": True, "stream_options": {"include_usage": True}}
    status, headers, raw = await gateway.post("/completions", PROMPT | more)
    text, chunks = streamed(raw)
    assert status == 200
    assert text == "one two three four five six seven"
    assert chunks[-1]["usage"]["completion_tokens"] == 7
    assert chunks[-1]["smallfirst"]["route"] == route
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert all("logprobs" not in choice for chunk in chunks for choice in chunk["choices"])
    assert (await gateway.exchange(headers["x-smallfirst-id"]))["endpoint"] == "completions"


@pytest.mark.parametrize("more", [{"prompt": ["a", "b"]}, {"echo": True}, {"best_of": 3}, {"n": 2}])
async def test_completions_that_no_calibrator_judges_go_to_the_llm(
    gateway: Gateway, slm: Scripted, more: dict[str, Any]
):
    _, headers, _ = await gateway.post("/completions", PROMPT | more)
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("llm", "not_judged")
    assert slm.requests == []


async def test_a_completion_whose_slm_dies_goes_on_from_its_text(gateway: Gateway, slm: Scripted):
    slm.says(Reply("one two three four five six seven eight nine", cut_at=8), Reply(" nine"))
    _, _, raw = await gateway.post("/completions", PROMPT | {"stream": True})
    assert streamed(raw)[0] == "one two three four five six seven eight nine"
    assert slm.requests[1]["prompt"] == f"{PROMPT['prompt']}one two three four five six seven eight"


async def test_embeddings_of_a_model_are_its_own(gateway: Gateway, slm: Scripted, llm: Scripted):
    answer = await gateway.client.embeddings.create(model="large", input="hot", encoding_format="float")
    assert answer.data[0].embedding == [0.5, -0.5]
    assert answer.usage.prompt_tokens == 3
    assert (llm.paths, slm.paths) == (["/v1/embeddings"], [])


async def test_embeddings_by_policy_have_one_writer_and_no_fallback(
    gateway: Gateway, slm: Scripted, llm: Scripted
):
    _, headers, _ = await gateway.post("/embeddings", {"model": "test", "input": ["hot", "cold"]})
    assert headers["x-smallfirst-route"] == "slm"
    assert slm.requests[0] == {"model": "small", "input": ["hot", "cold"]}
    slm.says(Reply(status=500))
    status, _, _ = await gateway.post("/embeddings", {"model": "test", "input": "hot"})
    assert status == 502
    assert llm.requests == []


async def test_embeddings_by_policy_are_recorded_under_what_ran(gateway: Gateway):
    """Not under the cascade's digest, which the chat before has recorded: their replay would differ."""
    for path, body in (("/chat/completions", ASK), ("/embeddings", {"model": "test", "input": "hot"})):
        status, headers, _ = await gateway.post(path, body)
        assert status == 200
        assert (await gateway.exchange(headers["x-smallfirst-id"]))["policy"] == "test"


@pytest.mark.parametrize("logprobs", ["x", [1], {"a": 1}, 10**30, True, 3])
async def test_fields_of_written_answers_are_the_upstreams_to_judge_in_embeddings(
    gateway: Gateway, llm: Scripted, logprobs: object
):
    odd = {"logprobs": logprobs, "top_logprobs": 3, "tools": [{}], "response_format": {"type": "json_schema"}}
    status, _, _ = await gateway.post("/embeddings", {"model": "large", "input": "hot", **odd})
    assert (status, llm.requests[-1]["logprobs"]) == (200, logprobs)


async def test_embeddings_that_nobody_offers_are_a_clear_error(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    only_llm = Policy(name="big", description="x", router=Direct(tier="llm"))
    gateway = await start(
        settings_of(upstream(slm, "slm"), upstream(llm, "llm", capabilities={"embeddings": False})),
        [simple_policy(), only_llm],
    )
    for name in ("large", "big"):
        with pytest.raises(openai.BadRequestError, match=f"no upstream of {name} offers") as caught:
            await gateway.client.embeddings.create(model=name, input="hot", encoding_format="float")
        assert (caught.value.code, caught.value.param) == ("not_supported", "model")
    status, headers, _ = await gateway.post("/embeddings", {"model": "test", "input": "hot"})
    assert (status, headers["x-smallfirst-route"]) == (200, "slm")


async def test_health(gateway: Gateway):
    assert await gateway.get("/health/live") == (200, {"status": "ok"})
    assert await gateway.get("/health/ready") == (
        200,
        {
            "status": "ok",
            "upstreams": {
                "small-server": {"tier": "slm", "up": True},
                "large-server": {"tier": "llm", "up": True},
            },
        },
    )
    for tier in ("slm", "llm"):
        gateway.upstream(tier).set_running(False)
    status, ready = await gateway.get("/health/ready")
    assert (status, ready["status"]) == (503, "unavailable")
    assert await gateway.get("/health/live") == (200, {"status": "ok"})


async def test_metrics_hold_the_request_in_both_formats(gateway: Gateway, slm: Scripted):
    slm.says(Reply("It is cold.", logprobs=-0.01))
    await gateway.post("/chat/completions", ASK)
    await gateway.post("/chat/completions", ASK | {"model": "gpt-9"})
    labels = {"endpoint": "chat", "policy": "test", "reason": "confident", "route": "slm", "status": "200"}
    wrong = {
        "endpoint": "chat",
        "policy": "none",
        "reason": "model_not_found",
        "route": "none",
        "status": "404",
    }
    for accept, kind, parse in (
        ("text/plain", "text/plain", parse_text),
        ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text", parse_openmetrics),
    ):
        async with gateway.http.get(f"{gateway.root}/metrics", headers={"Accept": accept}) as response:
            assert response.headers["Content-Type"].startswith(kind)
            families = {family.name: family for family in parse(await response.text())}
        requests = {
            tuple(sorted(sample.labels.items())): sample.value
            for sample in families["smallfirst_requests"].samples
            if sample.name.endswith("_total")
        }
        assert requests == {tuple(labels.items()): 1.0, tuple(wrong.items()): 1.0}
        assert {sample.value for sample in families["smallfirst_upstream_up"].samples} == {1.0}


async def test_an_exchange_can_be_looked_up_by_its_id(gateway: Gateway, slm: Scripted, llm: Scripted):
    slm.says(Reply("Maybe blue?", logprobs=-1.5))
    _, headers, _ = await gateway.post("/chat/completions", ASK)
    found = await gateway.exchange(headers["x-smallfirst-id"])
    assert found["object"] == "smallfirst.exchange"
    assert (found["policy"], found["route"], found["reason"]) == ("test", "llm", "low_confidence")
    assert (found["status"], found["error"], found["stream"]) == (200, None, False)
    assert [(call["tier"], call["outcome"]) for call in found["calls"]] == [("slm", "ok"), ("llm", "ok")]
    assert found["cost_usd"] == pytest.approx(sum(call["cost_usd"] for call in found["calls"]))
    status, unknown = await gateway.get("/v1/exchanges/sf-0")
    assert (status, unknown["error"]["code"]) == (404, "exchange_not_found")
    assert "What is" not in json.dumps(found)


async def test_the_endpoints_are_described_without_pages_that_load_scripts_from_elsewhere(gateway: Gateway):
    for page in ("/docs", "/redoc"):
        assert (await gateway.get(page))[0] == 404
    status, schema = await gateway.get("/openapi.json")
    assert status == 200
    assert {"/v1/models", "/v1/exchanges/{exchange_id}", "/health/ready", "/metrics"} <= set(schema["paths"])
