"""A split sends requests to the policies that it stands for, the same key the same way."""

import json
from collections import Counter
from pathlib import Path

import pytest
from support.gateways import StartGateway, settings_of, simple_policy, upstream
from support.scripted_server import Scripted

from gateway.catalog.catalog import build_catalog
from gateway.upstreams.pool import build_pools
from policies.loading.loader import load_policies
from policies.loading.yaml_files import ConfigError
from policies.schema.split import Division, Split

ASK = {"model": "canary", "messages": [{"role": "user", "content": "Hi"}]}


def canary(by: str = "key", **between: float) -> Split:
    division = Division.model_validate({"by": by, "between": between or {"test": 1, "other": 1}})
    return Split(name="canary", description="For tests.", split=division)


async def test_a_key_is_sent_one_way_and_many_keys_both_ways(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    policies = [simple_policy(), simple_policy(accept=0.6).replace(name="other"), canary()]
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), policies)
    seen: Counter[str] = Counter()
    for number in range(20):
        own = {"smallfirst": {"key": f"user-{number}"}} if number % 2 else {"user": f"user-{number}"}
        taken = {
            (await gateway.post("/chat/completions", ASK | own))[1]["x-smallfirst-policy"] for _ in range(2)
        }
        assert len(taken) == 1
        seen.update(taken)
    assert set(seen) == {"test", "other"}


async def test_a_conversation_keeps_its_policy_from_turn_to_turn(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    policies = [simple_policy(), simple_policy(accept=0.6).replace(name="other"), canary("conversation")]
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), policies)
    seen = set()
    for number in range(12):
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"{number}"}]
        taken = set()
        for _ in range(3):
            _, headers, _ = await gateway.post("/chat/completions", ASK | {"messages": messages})
            taken.add(headers["x-smallfirst-policy"])
            messages = [*messages, {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]
        assert len(taken) == 1
        seen |= taken
    assert seen == {"test", "other"}


async def test_a_split_is_a_model_that_the_gateway_lists(start: StartGateway, slm: Scripted, llm: Scripted):
    gateway = await start(
        settings_of(upstream(slm, "slm"), upstream(llm, "llm")),
        [simple_policy(), simple_policy().replace(name="other"), canary()],
    )
    _, found = await gateway.get("/v1/models")
    listed = {model["id"]: model["owned_by"] for model in found["data"]}
    assert listed["canary"] == "smallfirst"
    assert (await gateway.get("/v1/models/canary"))[1]["id"] == "canary"


async def test_a_split_between_policies_that_are_not_served_says_which(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await start(
        settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [simple_policy(), canary(test=1, gone=1)]
    )
    status, _, raw = await gateway.post("/chat/completions", ASK)
    error = json.loads(raw)["error"]
    assert (status, error["code"]) == (400, "policy_unavailable")
    assert "gone" in error["message"]


def test_a_split_is_a_policy_file(tmp_path: Path):
    (tmp_path / "canary.yaml").write_text(
        "description: Try the careful one.\nsplit:\n  by: conversation\n  between: {auto: 95, careful: 5}\n"
    )
    found = load_policies(tmp_path)["canary"]
    assert isinstance(found, Split)
    assert found.split.between == {"auto": 95, "careful": 5}
    assert build_catalog([found], build_pools([])).unavailable["canary"].endswith("auto, careful")


def test_a_policy_is_either_a_split_or_has_a_router(tmp_path: Path):
    (tmp_path / "both.yaml").write_text(
        "description: x\nrouter: {kind: direct, tier: slm}\nsplit:\n  between: {auto: 95, careful: 5}\n"
    )
    with pytest.raises(ConfigError, match=r"both.yaml:2: router: unknown key"):
        load_policies(tmp_path)
