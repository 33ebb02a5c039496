"""Other spellings of the API's paths, which clients with a slightly wrong base URL send."""

import json

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gateways import Gateway
from support.scripted_server import Reply, Scripted
from support.strategy_requests import ASK

from gateway.api.listener.paths import ApiPaths

PATHS = ApiPaths(
    ["/v1/chat/completions", "/v1/completions", "/v1/models/{name:path}", "/v1/exchanges/{id}", "/metrics"]
)


@pytest.mark.parametrize(
    ("path", "served", "model"),
    [
        ("/v1/chat/completions/", "/v1/chat/completions", None),
        ("//v1/chat/completions", "/v1/chat/completions", None),
        ("/v1//chat/completions", "/v1/chat/completions", None),
        ("/v1/v1/chat/completions", "/v1/chat/completions", None),
        ("/chat/completions", "/v1/chat/completions", None),
        ("/models", "/v1/models", None),
        ("/models/Qwen/Qwen2.5", "/v1/models/Qwen/Qwen2.5", None),
        ("/exchanges/sf-1", "/v1/exchanges/sf-1", None),
        ("/openai/v1/chat/completions", "/v1/chat/completions", None),
        ("/openai/models", "/v1/models", None),
        ("/openai/deployments/auto/chat/completions", "/v1/chat/completions", "auto"),
        ("/openai/deployments/Qwen/Qwen2.5/completions/", "/v1/completions", "Qwen/Qwen2.5"),
        ("/openai/deployments/chat/chat/completions", "/v1/chat/completions", "chat"),
        ("/openai/deployments/auto", "/openai/deployments/auto", None),
        ("/openai/nothing", "/openai/nothing", None),
        ("/metrics/", "/metrics", None),
        ("/v1/nothing", "/v1/nothing", None),
        ("/v1", "/v1", None),
        ("/", "/", None),
    ],
)
def test_a_path_is_read_as_what_it_means(path: str, served: str, model: str | None):
    assert PATHS.resolve(path) == (served, model)


@given(st.text("/v1chatmodelsopenaideployments%\x00é", max_size=60))
def test_any_path_becomes_one_that_stays_as_it_is(path: str):
    resolved, model = PATHS.resolve(path)
    assert resolved.startswith("/")
    assert model is None or model
    assert PATHS.resolve(resolved).path == resolved


async def test_the_official_client_works_with_any_of_these_base_urls(gateway: Gateway, slm: Scripted):
    slm.says(Reply("Cold."))
    for base in ("", "/", "/v1/", "//v1", "/openai/v1", "/v1/v1"):
        client = gateway.client.with_options(base_url=f"{gateway.root}{base}")
        answer = await client.chat.completions.create(model="test", messages=ASK["messages"])
        assert answer.choices[0].message.content == "Cold."
        assert "test" in {model.id async for model in client.models.list()}


async def test_azures_client_names_the_policy_in_the_path(gateway: Gateway, slm: Scripted):
    slm.says(Reply("Cold."), Reply("Cold."), Reply("Cold."))
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=gateway.root, api_key="none", api_version="2024-10-21", max_retries=0
    ) as client:
        answer = await client.chat.completions.create(model="test", messages=ASK["messages"])
        assert answer.choices[0].message.content == "Cold."
        response = await client.responses.create(model="test", input="What is the opposite of hot?")
        assert response.output_text == "Cold."
    path = f"{gateway.root}/openai/deployments/test/chat/completions?api-version=2024-10-21"
    for body in ({"messages": ASK["messages"]}, ASK | {"model": "gpt-4o"}):
        async with gateway.http.post(path, json=body) as reply:
            assert (reply.status, reply.headers["x-smallfirst-policy"]) == (200, "test")
    status, _, raw = await gateway.post("/../openai/deployments/nobody/chat/completions", ASK)
    assert (status, json.loads(raw)["error"]["code"]) == (404, "model_not_found")


async def test_what_can_be_got_can_be_asked_for_by_head(gateway: Gateway):
    for path in ("/health", "/health/live", "/v1/models", "/v1/models/test", "/metrics"):
        async with gateway.http.get(f"{gateway.root}{path}") as got:
            size = len(await got.read())
        async with gateway.http.head(f"{gateway.root}{path}") as response:
            assert (response.status, await response.read()) == (200, b"")
            assert path == "/metrics" or int(response.headers["content-length"]) == size


async def test_health_says_whether_a_model_can_answer(gateway: Gateway):
    assert (await gateway.get("/health")) == (await gateway.get("/health/ready"))


async def test_a_path_that_is_not_served_names_the_base_url(gateway: Gateway):
    for path in ("/v1/messages", "/api/chat", "/v1", "/", "/openai/deployments/test/images/edits"):
        async with gateway.http.post(f"{gateway.root}{path}", json=ASK) as response:
            error = (await response.json())["error"]
        assert (response.status, error["code"]) == (404, "not_found")
        assert gateway.url in error["message"]
