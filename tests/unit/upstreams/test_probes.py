"""Whether an upstream is there, found out before a request does; and whose machine it is."""

from typing import Any

import pytest
from support.gateways import Gateway, StartGateway, settings_of, upstream
from support.scripted_server import Reply, Scripted
from support.waiting import until

from gateway.upstreams.resilience.breaker import FAILURES_TO_OPEN
from gateway.upstreams.settings import UpstreamSettings
from gateway.upstreams.transport.hosts import is_private_host
from gateway.upstreams.upstream import Upstream

LARGE = {"model": "large", "messages": [{"role": "user", "content": "What is the opposite of hot?"}]}
OFTEN = 0.01


async def probed(start: StartGateway, llm: Scripted, **changes: Any) -> Gateway:
    gateway: Gateway = await start(settings_of(upstream(llm, "llm", **{"probe": OFTEN} | changes)))
    return gateway


@pytest.mark.parametrize(
    ("engine", "path"),
    [
        ("openai", "/v1/models"),
        ("mistral", "/v1/models"),
        ("deepseek", "/v1/models"),
        ("llamacpp", "/health"),
        ("vllm", "/health"),
    ],
)
async def test_an_idle_upstream_is_looked_at_where_it_costs_nothing(
    start: StartGateway, llm: Scripted, engine: str, path: str
):
    gateway = await probed(start, llm, engine=engine)
    await until(lambda: len(llm.looks) >= 3)
    assert set(llm.looks) == {path}
    assert gateway.upstream("llm").is_up
    assert llm.requests == []


async def test_a_missed_probe_marks_it_as_down_until_one_is_answered(start: StartGateway, llm: Scripted):
    llm.health = 503
    gateway = await probed(start, llm)
    large = gateway.upstream("llm")
    await until(lambda: not large.is_up)
    status, ready = await gateway.get("/health/ready")
    assert (status, ready["upstreams"]["large-server"]["up"]) == (503, False)
    llm.health = 200
    await until(lambda: large.is_up)
    assert (await gateway.get("/health/ready"))[0] == 200


async def test_a_server_that_is_not_there_is_found_down(start: StartGateway, llm: Scripted):
    gateway = await probed(start, llm, url="http://127.0.0.1:9/v1")
    await until(lambda: not gateway.upstream("llm").is_up)


@pytest.mark.parametrize("health", [301, 401, 404, 429])
async def test_any_answer_but_a_failure_of_its_own_says_that_it_is_there(
    start: StartGateway, llm: Scripted, health: int
):
    llm.health = health
    gateway = await probed(start, llm)
    await until(lambda: len(llm.looks) >= 3)
    assert gateway.upstream("llm").is_up


async def test_a_call_that_is_answered_says_so_too(start: StartGateway, llm: Scripted):
    llm.health = 503
    gateway = await probed(start, llm, probe=60)
    large = gateway.upstream("llm")
    await until(lambda: not large.is_up)
    assert (await gateway.post("/chat/completions", LARGE))[0] == 200
    assert large.is_up


async def test_an_answered_probe_ends_a_breakers_rest(start: StartGateway, llm: Scripted):
    """The breaker's clock stands still: it is the probe that lets the next call try."""
    gateway = await probed(start, llm)
    large = gateway.upstream("llm")
    large.breaker._clock = lambda: 1000.0
    llm.health = 503
    llm.says(Reply(status=500))
    for _ in range(FAILURES_TO_OPEN):
        await gateway.post("/chat/completions", LARGE)
    assert large.breaker.is_open
    llm.says("Cold.")
    status, _, raw = await gateway.post("/chat/completions", LARGE)
    assert (status, b"resting" in raw) == (503, True)
    llm.health = 200
    await until(lambda: large.is_up)
    assert (await gateway.post("/chat/completions", LARGE))[0] == 200


async def test_while_calls_are_answered_nobody_looks(start: StartGateway, llm: Scripted):
    gateway = await probed(start, llm, probe=60)
    await until(lambda: len(llm.looks) == 1)
    large = gateway.upstream("llm")
    assert large.is_silent_for(60)
    await gateway.post("/chat/completions", LARGE)
    assert not large.is_silent_for(60)
    assert large.is_silent_for(0)


async def test_a_probe_carries_the_key_and_the_query(start: StartGateway, llm: Scripted):
    probe = Upstream(
        UpstreamSettings.model_validate(
            upstream(llm, "llm", key="sk-mine", query={"api-version": "1"}, headers={"X-Team": "t"})
        )
    ).probe
    assert str(probe.url) == f"{llm.url}/models?api-version=1"
    assert (probe.headers["Authorization"], probe.headers["X-Team"]) == ("Bearer sk-mine", "t")


def described(url: str, **changes: Any) -> UpstreamSettings:
    return UpstreamSettings.model_validate({"name": "u", "tier": "llm", "url": url, "model": "m"} | changes)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost.",
        "127.0.0.1",
        "127.9.9.9",
        "0x7f.1",
        "[::1]",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.5",
        "169.254.1.1",
        "[fe80::1]",
        "[fd12::1]",
        "[::ffff:10.0.0.1]",
        "gpu.local",
        "llm.corp.internal",
        "vllm.default.svc.cluster.local",
    ],
)
def test_a_host_of_this_machine_or_network_is_no_cloud(host: str):
    settings = described(f"http://{host}:8000/v1")
    assert not settings.is_cloud
    assert Upstream(settings).probe.interval_s == 10.0
    assert described(f"http://{host}/v1", cloud=True).is_cloud


@pytest.mark.parametrize(
    "host",
    [
        "api.openai.com",
        "8.8.8.8",
        "[::ffff:8.8.8.8]",
        "[2001:4860::1]",
        "local.example.com",
        "internal.io",
        "vllm",
    ],
)
def test_any_other_host_is_a_cloud_and_left_alone(host: str):
    settings = described(f"https://{host}/v1")
    assert settings.is_cloud
    assert Upstream(settings).probe.interval_s == 0.0
    assert Upstream(described(f"https://{host}/v1", probe=3)).probe.interval_s == 3.0
    assert not described(f"https://{host}/v1", cloud=False).is_cloud


def test_a_host_without_a_name_is_not_ours():
    assert not is_private_host("")
