"""A request names a policy. It names an upstream's model only if the settings expose them."""

import json

import pytest
from support.gateways import Gateway, StartGateway, settings_of, simple_calibrator, simple_policy, upstream
from support.scripted_server import Scripted
from support.strategy_requests import ASK


@pytest.fixture
async def closed(start: StartGateway, slm: Scripted, llm: Scripted) -> Gateway:
    small = upstream(slm, "slm", engine="vllm", adapters=["sql"])
    judge = simple_calibrator(engine="vllm")
    both = small, upstream(llm, "llm", capabilities={"embeddings": True})
    return await start(settings_of(*both, expose_models=False), [simple_policy(calibrator=judge)])


async def test_no_way_of_naming_a_model_gets_past_the_policies(closed: Gateway, slm: Scripted, llm: Scripted):
    for name in ("small", "large", "sql"):
        for path, body in (
            ("/chat/completions", ASK),
            ("/chat/completions", ASK | {"smallfirst": {"policy": name}}),
            ("/completions", {"prompt": "Hi"}),
            ("/embeddings", {"input": "Hi"}),
            ("/responses", {"input": "Hi"}),
            ("/compress", {"prompt": "Hi"}),
        ):
            status, _, raw = await closed.post(path, body | {"model": name})
            assert (status, json.loads(raw)["error"]["code"]) == (404, "model_not_found"), path
        assert (await closed.get(f"/v1/models/{name}"))[0] == 404
    async with closed.http.post(
        f"{closed.root}/tokenize", json={"model": "small", "prompt": "Hi"}
    ) as response:
        assert response.status == 404
    assert slm.requests == llm.requests == []


async def test_the_error_names_the_policies_and_the_key_and_gives_no_model_away(closed: Gateway):
    messages = []
    for name in ("large", "nosuch"):
        _, _, raw = await closed.post("/chat/completions", ASK | {"model": name})
        messages.append(json.loads(raw)["error"]["message"].replace(name, "NAME"))
    assert messages[0] == messages[1]
    assert "there are: " in messages[0]
    assert "test" in messages[0]
    assert "expose_models: true" in messages[0]
    assert "small" not in messages[0]


async def test_only_policies_are_listed(closed: Gateway):
    _, listed = await closed.get("/v1/models")
    assert {model["owned_by"] for model in listed["data"]} == {"smallfirst"}


async def test_embeddings_still_come_of_one_model(closed: Gateway, llm: Scripted):
    status, headers, _ = await closed.post("/embeddings", {"model": "test", "input": "Hi"})
    assert (status, headers["x-smallfirst-route"]) == (200, "llm")
    assert [body["model"] for body in llm.requests] == ["large"]
