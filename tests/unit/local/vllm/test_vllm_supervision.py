"""vLLM under the supervisor: its start, its deaths, its end, and that none of its processes is ever left behind."""

import asyncio
import json
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import aiohttp
import pytest
from support.fake_engine import FAKE, FakeVllm
from support.gateway_process import free_port, serve
from support.gateways import StartGateway, upstream
from support.loopback_hub import run_hub, use_hub
from support.scripted_server import Scripted
from support.waiting import soon, until

from gateway.app import create_app
from gateway.local.supervision.start_progress import StartStep
from gateway.local.vllm.launch import KEEPER_SCRIPT
from gateway.local.weights.fetching import fetch_local_model
from gateway.settings import Settings
from policies.schema.policy import Policy
from routers.strategies.direct import Direct

HOME_FIRST = Policy(name="home-first", description="For tests.", router=Direct(tier="slm", fallback=True))


def ask(question: str = "What is the opposite of hot?", **more: object) -> dict:
    return {"model": "home-first", "messages": [{"role": "user", "content": question}]} | more


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeVllm:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return FakeVllm(tmp_path)


async def test_it_is_warm_and_answers_and_its_log_is_carried(
    start: StartGateway, fake: FakeVllm, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO, "gateway.local.supervision.supervisor"):
        gateway = await start(Settings(local=fake.engine()))
    assert fake.seen("warmed")
    _, headers, raw = await gateway.post("/chat/completions", ask(model="offline"))
    assert headers["x-smallfirst-route"] == "slm"
    assert b"Cold, says vLLM." in raw
    assert "vLLM: (Worker pid=2) INFO Starting to load model m..." in caplog.messages


@pytest.mark.parametrize("speculates", [False, True])
async def test_each_way_through_it_is_taken_before_it_is_ready(fake: FakeVllm, speculates: bool):
    speculative = {"method": "ngram", "num_speculative_tokens": 3} if speculates else None
    app = create_app(Settings(local=fake.engine(speculative=speculative)))
    async with app.router.lifespan_context(app):
        assert app.local is not None
        await app.local.wait_until_ready()
    answer, scores, *repetition = map(json.loads, (fake.notes / "warmed").read_text().splitlines())
    assert answer["max_tokens"] > 1
    assert scores["prompt_logprobs"] == 1
    assert [len(request["prompt"].split()) > 8 for request in repetition] == [True] * speculates


async def test_the_stages_of_its_start_are_told_in_order_and_it_ends_in_its_own_way(fake: FakeVllm):
    told: list[StartStep] = []
    app = create_app(Settings(local=fake.engine()), tell=told.append)
    async with app.router.lifespan_context(app):
        assert app.local is not None
        await app.local.wait_until_ready()
        assert len(fake.pids()) == 3
        assert [path.name for path in fake.temporary.iterdir()] == ["socket"]
    assert [str(step).partition(" (")[0] for step in told if isinstance(step, str) or step.is_new] == [
        "local: context: the model's own, as vLLM reads it",
        "vLLM: importing vLLM",
        "vLLM: starting the engine",
        "vLLM: loading the weights",
        "vLLM: warming up",
        "vLLM: ready",
    ]
    assert fake.seen("stopped")
    assert fake.pids() == set()
    assert not fake.temporary.exists()


async def test_a_server_that_dies_leaves_no_temporary_files_and_what_torch_compiled_stays(
    start: StartGateway, fake: FakeVllm
):
    await start(Settings(local=fake.engine()))
    first, before = fake.environment(), fake.pids()
    os.kill(fake.server, signal.SIGKILL)
    await until(lambda: not Path(first["TMPDIR"]).exists())
    await until(lambda: len(fake.pids() - before) == 3)
    again = fake.environment()
    assert again["TMPDIR"] != first["TMPDIR"]
    assert again["TORCHINDUCTOR_CACHE_DIR"] == first["TORCHINDUCTOR_CACHE_DIR"]
    assert not again["TORCHINDUCTOR_CACHE_DIR"].startswith((first["TMPDIR"], again["TMPDIR"]))


async def test_its_key_stands_in_no_argument_and_it_gets_no_providers_key(
    start: StartGateway, fake: FakeVllm, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-cloud")
    gateway = await start(Settings(local=fake.engine()))
    (key,) = gateway.upstream("slm")._secrets
    environment = fake.environment()
    assert environment["VLLM_API_KEY"] == key.decode()
    assert "OPENAI_API_KEY" not in environment
    assert {environment[name] for name in ("HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK")} == {"1"}
    shown = [Path(f"/proc/{pid}/cmdline") for pid in (fake.server, fake.keeper)]
    for path in (*shown, Path(f"/proc/{fake.keeper}/environ")):
        assert key not in path.read_bytes()


@pytest.mark.parametrize("killed", ["server", "keeper"])
async def test_kill_9_loses_no_request_leaves_nothing_and_it_comes_back(
    start: StartGateway, fake: FakeVllm, llm: Scripted, killed: str
):
    llm.says("Cold, says the cloud.")
    gateway = await start(Settings(local=fake.engine(), upstreams=[upstream(llm, "llm")]), [HOME_FIRST])
    before = fake.pids()
    assert len(before) == 3
    asking = asyncio.create_task(gateway.post("/chat/completions", ask("hold")))
    await until(lambda: fake.seen("holding"))
    os.kill(getattr(fake, killed), signal.SIGKILL)
    status, headers, raw = await asking
    assert (status, headers["x-smallfirst-route"]) == (200, "llm")
    assert b"Cold, says the cloud." in raw
    await until(lambda: len(fake.pids() - before) == 3 and gateway.upstream("slm").is_up)
    assert fake.pids().isdisjoint(before)
    _, headers, _ = await gateway.post("/chat/completions", ask())
    assert headers["x-smallfirst-route"] == "slm"


async def test_without_another_model_a_request_waits_for_its_restart(start: StartGateway, fake: FakeVllm):
    gateway = await start(Settings(local=fake.engine()))
    os.kill(fake.server, signal.SIGKILL)
    status, headers, _ = await gateway.post("/chat/completions", ask(model="offline"))
    assert (status, headers["x-smallfirst-route"]) == (200, "slm")


async def test_while_it_starts_requests_go_to_the_large_model(fake: FakeVllm, llm: Scripted, tmp_path: Path):
    """`serve` does not wait: it is live, and ready by its other model."""
    llm.says("Cold, says the cloud.")
    (fake.notes / "start").touch()
    policy = tmp_path / "policies" / "home-first.yaml"
    policy.parent.mkdir()
    policy.write_text("description: For tests.\nrouter: {kind: direct, tier: slm, fallback: true}\n")
    config = {"local": fake.engine().model_dump(mode="json", exclude_unset=True)}
    async with (
        serve(tmp_path, upstreams=[upstream(llm, "llm")], policies={"folder": "policies"}, **config) as (
            _,
            url,
        ),
        aiohttp.ClientSession() as http,
    ):
        async with http.get(f"{url}/health/ready") as response:
            states = (await response.json())["upstreams"]
        assert {name: state["up"] for name, state in states.items()} == {"local": False, "large-server": True}
        async with http.post(f"{url}/v1/chat/completions", json=ask()) as response:
            assert response.headers["x-smallfirst-route"] == "llm"
        (fake.notes / "start").unlink()

        async def is_answered_at_home() -> bool:
            async with http.post(f"{url}/v1/chat/completions", json=ask()) as response:
                return response.headers["x-smallfirst-route"] == "slm"

        await until(is_answered_at_home)
    await until(lambda: not fake.pids())
    assert fake.seen("stopped")


async def test_no_process_of_it_outlives_a_gateway_that_is_killed(fake: FakeVllm, tmp_path: Path):
    config = {"local": fake.engine().model_dump(mode="json", exclude_unset=True)}
    async with serve(tmp_path, **config) as (process, _):
        await until(lambda: fake.seen("warmed"))
        process.kill()
        await process.communicate()
        await until(lambda: not fake.pids() and not fake.temporary.exists())


async def test_a_start_that_fails_ends_serve_with_its_last_words(fake: FakeVllm, tmp_path: Path):
    (fake.notes / "broken").touch()
    path = tmp_path / "smallfirst.yaml"
    local = fake.engine().model_dump(mode="json", exclude_unset=True)
    path.write_text(json.dumps({"local": local, "listen": {"port": free_port()}}))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "serve", "--config", str(path)),
        stderr=PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
    )
    _, err = await soon(process.communicate())
    assert process.returncode == 1
    assert b"vLLM ended with code 1 before it was ready" in err
    assert b"Free memory on device is less than desired" in err


async def test_a_keeper_and_a_gateway_that_die_together_leave_nothing(fake: FakeVllm):
    """What is left of them is a shell that holds the gateway's pipe, and ends the group when it breaks."""
    environment = {**os.environ, "PYTHONPATH": str(FAKE), "FAKE_NOTES": str(fake.notes)}
    command = ["vllm.entrypoints.openai.api_server", "--host=127.0.0.1", f"--port={free_port()}"]
    keeper = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", str(KEEPER_SCRIPT)), stdin=PIPE, env=environment, start_new_session=True
    )
    assert keeper.stdin is not None
    config = {"command": command, "environment": {}, "key": "k", "patience": 0.1}
    keeper.stdin.write(json.dumps(config).encode() + b"\n")
    await until(lambda: len(fake.pids()) == 3)
    keeper.kill()
    keeper.stdin.close()
    await keeper.wait()
    await until(lambda: not fake.pids() and not fake.temporary.exists())


async def test_a_model_of_a_hub_is_served_from_the_cache_under_its_own_name(
    start: StartGateway, fake: FakeVllm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SMALLFIRST_VLLM", sys.executable)
    with run_hub() as hub:
        use_hub(monkeypatch, hub.url, tmp_path / "hf")
        hub.add("org/model", {path.name: path for path in Path(fake.model).iterdir()})
        local = fake.engine(model="org/model")
        model = fetch_local_model(local, tmp_path, print)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    gateway = await start(Settings(local=local))
    _, headers, raw = await gateway.post("/chat/completions", ask(model="offline"))
    assert headers["x-smallfirst-route"] == "slm"
    assert b"org/model" in raw
    words = Path(f"/proc/{fake.server}/cmdline").read_text().split("\0")
    assert words[words.index("--model") + 1] == str(model.path)
    assert words[words.index("--served-model-name") + 1] == "org/model"
    assert "HF_TOKEN" not in fake.environment()
