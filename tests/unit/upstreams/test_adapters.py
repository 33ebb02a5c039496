"""LoRA adapters: models that a request may name, served by their server as one upstream."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from support.gateways import Gateway, StartGateway, settings_of, upstream
from support.scripted_server import Reply, Scripted

from gateway.settings import load_settings
from gateway.upstreams.settings import UpstreamSettings
from policies.loading.yaml_files import ConfigError

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Is ice cold?"}]}


@pytest.fixture
async def gateway(start: StartGateway, slm: Scripted, llm: Scripted) -> Gateway:
    tuned = upstream(slm, "slm", engine="vllm", adapters=["sql", "legal"])
    return await start(settings_of(tuned, upstream(llm, "llm")))


async def test_adapters_are_listed_beside_the_model_they_belong_to(gateway: Gateway):
    _, listed = await gateway.get("/v1/models")
    found = {model["id"]: model for model in listed["data"]}
    assert {name: found[name].get("parent") for name in ("small", "sql", "legal", "large")} == {
        "small": None,
        "sql": "small",
        "legal": "small",
        "large": None,
    }
    assert (await gateway.get("/v1/models/sql"))[1]["owned_by"] == "small-server"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_adapter_is_asked_by_its_name_as_its_server_knows_it(
    gateway: Gateway, slm: Scripted, stream: bool
):
    status, headers, _ = await gateway.post("/chat/completions", ASK | {"model": "sql", "stream": stream})
    assert (status, slm.requests[0]["model"]) == (200, "sql")
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    (call,) = exchange["calls"]
    assert (call["upstream"], call["model"]) == ("small-server", "sql")


async def test_an_adapter_has_no_stand_in(gateway: Gateway, slm: Scripted, llm: Scripted):
    slm.says(Reply(status=500))
    status, _, _ = await gateway.post("/chat/completions", ASK | {"model": "sql"})
    assert (status, llm.requests) == (502, [])


async def test_an_adapters_failures_are_its_servers(gateway: Gateway, slm: Scripted):
    slm.says(Reply(status=500))
    for _ in range(10):
        await gateway.post("/chat/completions", ASK | {"model": "sql"})
    status, _, raw = await gateway.post("/chat/completions", ASK | {"model": "legal"})
    assert (status, json.loads(raw)["error"]["code"]) == (503, "upstream_unavailable")


async def test_an_adapter_is_asked_of_any_server_that_has_it(
    start: StartGateway, slm: Scripted, llm: Scripted, spare: Scripted
):
    servers = (
        upstream(slm, "slm", engine="vllm"),
        upstream(spare, "slm", engine="vllm", model="small", adapters=["sql"]),
    )
    gateway = await start(settings_of(*servers))
    for _ in range(3):
        await gateway.post("/chat/completions", ASK | {"model": "sql"})
    assert ([one["model"] for one in spare.requests], slm.requests) == (["sql"] * 3, [])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"engine": "llamacpp", "adapters": ["sql"]}, "adapters need engine: vllm, not llamacpp"),
        ({"engine": "vllm", "adapters": ["sql", "sql"]}, "must differ from one another"),
        ({"engine": "vllm", "adapters": ["m"]}, "must differ from one another and from model"),
        ({"engine": "vllm", "adapters": ["two words"]}, "should match pattern"),
    ],
)
def test_adapters_that_can_be_none_are_refused(fields: dict[str, Any], said: str):
    with pytest.raises(ValidationError, match=said):
        UpstreamSettings(name="u", tier="slm", url="http://127.0.0.1:9/v1", model="m", **fields)


def test_an_adapter_named_as_another_upstreams_model_is_refused(tmp_path: Path):
    path = tmp_path / "smallfirst.yaml"
    path.write_text(
        "upstreams:\n"
        "- {name: a, tier: slm, url: http://a.local/v1, model: base, engine: vllm, adapters: [sql]}\n"
        "- {name: b, tier: llm, url: http://b.local/v1, model: sql}\n"
    )
    with pytest.raises(ConfigError, match=r"upstreams.0.adapters: 'sql' is an upstream's model"):
        load_settings(path)
