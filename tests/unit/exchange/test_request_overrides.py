"""`smallfirst.override`: a request's own thresholds, where the policy allows them."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from support.gateways import Gateway, StartGateway, gateway_of, settings_of, simple_policy, upstream
from support.scripted_server import Reply, Scripted

from policies.records.reader import read_records
from routers.strategies.cascade import Cascade

ASK = {"model": "test", "messages": [{"role": "user", "content": "What is the opposite of hot?"}]}
POLICY = simple_policy().replace(overrides=("accept", "commit"))


@pytest.fixture
async def gateway(start: StartGateway, slm: Scripted, llm: Scripted) -> Gateway:
    """`test` lets a request override `accept` and `commit`."""
    slm.says(Reply("Maybe cold.", logprobs=-0.8))  # confidence 0.69
    return await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [POLICY])


async def reason(gateway: Gateway, **own: Any) -> str:
    status, headers, raw = await gateway.post("/chat/completions", ASK | {"smallfirst": own})
    assert status == 200, raw
    assert headers["x-smallfirst-policy"] == "test"
    return headers["x-smallfirst-reason"]


async def test_a_requests_own_threshold_decides_its_exchange_alone(gateway: Gateway, slm: Scripted):
    assert await reason(gateway) == "confident"
    assert await reason(gateway, override={"accept": 0.8}) == "low_confidence"
    assert await reason(gateway, override=None) == "confident"
    assert await reason(gateway, policy="test", override={"accept": 0.8}) == "low_confidence"
    assert all("smallfirst" not in request for request in slm.requests)


async def test_records_name_the_policy_as_it_ran(slm: Scripted, llm: Scripted, tmp_path: Path):
    settings = settings_of(upstream(slm, "slm"), upstream(llm, "llm"))
    async with gateway_of(settings, tmp_path, [POLICY]) as served, aiohttp.ClientSession() as http:
        for override in ({}, {"accept": 0.8}, {"accept": 0.8}):
            body = ASK | {"smallfirst": {"override": override}}
            async with http.post(f"{served.url}/chat/completions", json=body) as response:
                assert response.status == 200
    found = list(read_records(tmp_path))
    routers = [record.policy.router for record in found]
    assert [router.accept for router in routers if isinstance(router, Cascade)] == [0.5, 0.8, 0.8]
    first, second, third = [record.exchange.digest for record in found]
    assert first == POLICY.digest != second == third


async def test_the_official_client_sends_an_override_as_an_extra_field(gateway: Gateway):
    more = {"smallfirst": {"override": {"accept": 2}}}
    with pytest.raises(openai.BadRequestError, match=r"smallfirst\.override\.accept: Input should be less"):
        await gateway.client.chat.completions.create(
            model="test", messages=[{"role": "user", "content": "Hot?"}], extra_body=more
        )


NOT_ALLOWED = (403, "override_not_allowed")


@pytest.mark.parametrize(
    ("model", "override", "found", "param", "allowed"),
    [
        ("test", {"accept": 2}, (400, "invalid_value"), "smallfirst.override.accept", "override accept, commit"),
        ("test", {"accept": 0.95}, (400, "invalid_value"), "smallfirst.override", "override accept, commit"),
        ("test", {"give_up": 0}, NOT_ALLOWED, "smallfirst.override.give_up", "override accept, commit"),
        ("test", {"nonsense": 0}, NOT_ALLOWED, "smallfirst.override.nonsense", "override accept, commit"),
        ("large", {"tier": "slm"}, NOT_ALLOWED, "smallfirst.override.tier", "override nothing"),
        ("none", {"tier": "slm"}, (404, "model_not_found"), "model", "there are: "),
    ],
)  # fmt: skip
async def test_a_refused_override_names_the_field_and_what_is_allowed(
    gateway: Gateway,
    slm: Scripted,
    model: str,
    override: dict[str, Any],
    found: tuple[int, str],
    param: str,
    allowed: str,
):
    body = ASK | {"model": model, "smallfirst": {"override": override}}
    status, _, raw = await gateway.post("/chat/completions", body)
    error = json.loads(raw)["error"]
    assert (status, error["code"]) == found
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert allowed in error["message"]
    assert slm.requests == []


async def test_an_override_that_the_servers_can_not_serve_is_refused_as_a_policy_is(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    """A spliced stream needs a large model that continues a begun answer."""
    free = simple_policy(commit=0.9).replace(overrides=("release",))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [free])
    body = ASK | {"smallfirst": {"override": {"release": "splice"}}}
    status, _, raw = await gateway.post("/chat/completions", body)
    error = json.loads(raw)["error"]
    assert (status, error["code"], error["param"]) == (400, "not_supported", "smallfirst.override")
    assert "prefill" in error["message"]
    assert slm.requests == []
