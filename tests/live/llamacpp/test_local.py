"""The real local engine with the real small model, and a scripted LLM."""

import asyncio
import json
import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest
from support.gateways import Gateway, StartGateway, upstream
from support.scripted_server import Scripted
from support.waiting import soon, until

from gateway.settings import LocalEngine, Settings
from gateway.upstreams.capability_probe import fetch_context_length, probe_capabilities
from gateway.upstreams.providers.registry import SERVER_KINDS
from policies.loading.trained_files import STOCK_CALIBRATOR, read_trained
from policies.schema.policy import Policy
from routers.confidence.calibration import Calibrator
from routers.strategies.cascade import Cascade

pytestmark = pytest.mark.engine

EASY = "What is the opposite of hot? Answer with one word."
HARD = "What is 487 * 316? Answer with the number only."


def ask(question: str, **more: object) -> dict:
    return {"model": "auto", "messages": [{"role": "user", "content": question}], "temperature": 0} | more


def local_settings(*upstreams: dict, **local: object) -> Settings:
    return Settings(local=LocalEngine(threads=1, **local), upstreams=upstreams)


@pytest.fixture
async def real(start: StartGateway, llm: Scripted, weights: Path) -> Gateway:
    llm.says("153892")
    return await start(local_settings(upstream(llm, "llm")))


@pytest.fixture
async def alone(start: StartGateway, weights: Path) -> Gateway:
    return await start(local_settings())


async def test_an_easy_question_stays_local_and_a_hard_one_escalates(real: Gateway, llm: Scripted):
    _, headers, raw = await real.post("/chat/completions", ask(EASY, max_tokens=40))
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("slm", "confident")
    assert b"old" in raw
    assert llm.requests == []
    _, headers, raw = await real.post("/chat/completions", ask(HARD, max_tokens=40))
    assert headers["x-smallfirst-route"] == "llm"
    assert headers["x-smallfirst-reason"] in ("low_confidence", "gave_up")
    assert b"153892" in raw


async def test_the_engines_key_is_needed_and_stands_in_no_argument(alone: Gateway):
    pid = engine_pid()
    local = alone.upstream("slm")
    async with alone.http.post(local.url("chat"), json=ask(EASY)) as response:
        assert response.status == 401
    shown = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    status, _, _ = await alone.post("/chat/completions", ask(EASY, max_tokens=4))
    assert status == 200
    assert b"gateway.local.llamacpp.server" in shown
    (key,) = local._secrets
    assert len(key) > 20
    assert key not in shown


async def test_what_is_known_of_llama_cpp_is_what_it_does(alone: Gateway):
    local = alone.upstream("slm")
    found = await probe_capabilities(local)
    known = SERVER_KINDS["llamacpp"].capabilities(local.model, "").model_dump()
    known["tools"] = (
        local.capabilities.tools
    )  # its kind calls them, but this model's template leaves them out
    assert not known["tools"]
    assert found == {name: known[name] for name in found}
    assert await fetch_context_length(local) == local.context_length == 8192


async def test_a_draft_that_might_call_a_tool_is_judged(start: StartGateway, alone: Gateway, llm: Scripted):
    """Its server refuses a stream with tools its `logprobs`, and is asked in its own way.

    The model's template leaves tools out; whoever declares `tools` gets drafts all the same.
    """
    engine = alone.upstream("slm")
    declared = {
        "name": "declared",
        "tier": "slm",
        "url": engine.url("chat").removesuffix("/chat/completions"),
        "model": engine.model,
        "engine": "llamacpp",
        "headers": {"Authorization": engine.probe.headers["Authorization"]},
        "capabilities": {"tools": True},
    }
    gateway = await start(Settings(local=None, upstreams=(declared, upstream(llm, "llm"))))
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    _, headers, _ = await gateway.post("/chat/completions", ask(EASY, max_tokens=40, tools=[tool]))
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    assert exchange["calls"][0]["outcome"] in ("ok", "stopped")
    assert exchange["confidence"] is not None


@pytest.mark.parametrize("model", ["auto", "offline"])
async def test_a_begun_answer_is_gone_on_with_and_not_repeated(alone: Gateway, model: str):
    begun = {"role": "assistant", "content": "The opposite of hot"}
    body = ask(EASY, max_tokens=8, model=model)
    body["messages"].append(begun)
    _, _, raw = await alone.post("/chat/completions", body)
    plain = json.loads(raw)["choices"][0]["message"]["content"]
    stream = await alone.client.chat.completions.create(**body, stream=True)
    streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert plain == streamed
    assert not plain.startswith(begun["content"])


async def test_a_prompt_over_the_context_escalates_or_says_the_limit(real: Gateway, llm: Scripted):
    _, headers, _ = await real.post("/chat/completions", ask("word " * 9000))
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("llm", "context_too_long")
    status, _, raw = await real.post("/chat/completions", ask("word " * 9000, model="offline"))
    assert status == 400
    assert json.loads(raw)["error"]["code"] == "context_length_exceeded"
    assert "8192" in json.loads(raw)["error"]["message"]


@pytest.mark.heavy
async def test_kill_9_under_load_loses_no_request(real: Gateway, llm: Scripted):
    """Those under way go to the LLM, and the engine is back for those that follow."""
    before = engine_pid()
    streams = [
        real.post("/chat/completions", ask(EASY, stream=index % 2 == 0, max_tokens=60)) for index in range(12)
    ]
    asking = asyncio.gather(*streams)
    while not _busy(real):
        await asyncio.sleep(0)
    os.kill(before, signal.SIGKILL)
    for status, _, raw in await asking:
        assert status == 200
        assert b"error" not in raw
    _, headers, _ = await until_local(real)
    assert headers["x-smallfirst-route"] == "slm"
    assert engine_pid() != before


@pytest.mark.heavy
async def test_kill_9_without_an_llm_waits_for_the_restart(alone: Gateway):
    os.kill(engine_pid(), signal.SIGKILL)
    status, headers, raw = await alone.post("/chat/completions", ask(EASY, max_tokens=12))
    assert (status, headers["x-smallfirst-route"]) == (200, "slm")
    assert b"old" in raw


async def test_a_committed_stream_survives_kill_9(alone: Gateway):
    """Without an LLM the text flows at once; its rest is written by the restarted engine, from that text."""
    stream = await alone.client.chat.completions.create(
        **ask("Write three sentences about the sea.", stream=True, max_tokens=60)
    )
    text, finish, killed = "", None, False
    async for chunk in stream:
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
            finish = chunk.choices[0].finish_reason or finish
        if len(text) > 20 and not killed:
            killed = True
            os.kill(engine_pid(), signal.SIGKILL)
    assert killed
    assert finish in ("stop", "length")
    assert len(text.split()) > 10


@pytest.mark.heavy
async def test_an_engine_that_hangs_is_noticed_and_restarted(
    start: StartGateway, llm: Scripted, weights: Path
):
    """Stopped, it still accepts connections. A stream that it was writing goes to the LLM."""
    llm.says("Cold, says the cloud.")
    gateway = await start(local_settings(upstream(llm, "llm"), hung_after=4))
    before = engine_pid()
    asking = asyncio.create_task(gateway.post("/chat/completions", ask(EASY, max_tokens=200, stream=True)))
    await until(lambda: gateway.upstream("slm").load)
    os.kill(before, signal.SIGSTOP)
    status, _, raw = await soon(asking)
    assert status == 200
    assert b'"reason":"no_slm"' in raw
    _, headers, _ = await until_local(gateway)
    assert headers["x-smallfirst-route"] == "slm"
    assert engine_pid() != before


@pytest.mark.heavy
async def test_no_schema_blocks_the_small_model_for_others(alone: Gateway):
    """The largest that it takes costs it a fraction of a second a token. A client that leaves ends that at once."""

    def asking_for(count: int) -> dict:
        schema = {"enum": [f"value number {index}" for index in range(count)]}
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
        return ask("Which?", model="offline", max_tokens=40, response_format=form)

    status, _, raw = await alone.post("/chat/completions", asking_for(3000))
    assert (status, json.loads(raw)["error"]["code"]) == (400, "not_supported")
    local = alone.upstream("slm")
    for _ in range(8):
        leaving = asyncio.create_task(alone.post("/chat/completions", asking_for(256)))
        await until(lambda: local.load)
        leaving.cancel()
        await until(lambda: not local.load)
    status, _, _ = await soon(alone.post("/chat/completions", ask(EASY, model="offline", max_tokens=4)))
    assert status == 200


@pytest.mark.heavy
async def test_the_engine_ends_with_a_gateway_that_is_killed(weights: Path, tmp_path: Path):
    script = textwrap.dedent("""
        import asyncio, sys
        from gateway.cli.loopback_gateway import run_gateway
        from gateway.settings import LocalEngine, Settings
        async def main():
            async with run_gateway(Settings(local=LocalEngine(threads=1))):
                print("ready", flush=True)
                await asyncio.Event().wait()
        asyncio.run(main())
    """)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await soon(process.stdout.readline(), 60) == b"ready\n"
    (child,) = children(process.pid)
    process.kill()
    await process.wait()
    await until(lambda: not alive(child))


@pytest.mark.heavy
async def test_with_no_key_nothing_leaves_the_machine(weights: Path, tmp_path: Path):
    """Every connection that a gateway without a key makes, through all of its life, is to loopback."""
    script = textwrap.dedent("""
        import asyncio, sys
        seen = set()
        def audit(event, args):
            if event == "socket.connect" and isinstance(args[1], tuple):
                seen.add(args[1][0])
            if event == "socket.getaddrinfo":
                seen.add(args[0])
        sys.addaudithook(audit)
        import aiohttp
        from gateway.cli.loopback_gateway import run_gateway
        from gateway.settings import load_settings
        async def main():
            async with run_gateway(load_settings()) as served, aiohttp.ClientSession() as http:
                for model in ("auto", "offline"):
                    body = {"model": model, "messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 8}
                    async with http.post(served.url + "/chat/completions", json=body) as response:
                        assert response.status == 200
            print("hosts", sorted(map(str, seen)))
        asyncio.run(main())
    """)
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    # The audit hook sees Python's sockets, so the loop must be Python's: uvloop connects in C.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, env=environment, cwd=tmp_path
    )
    out, _ = await soon(process.communicate(), 90)
    assert process.returncode == 0
    hosts = json.loads(out.decode().removeprefix("hosts ").replace("'", '"'))
    assert set(hosts) <= {"127.0.0.1", "::1", "localhost", "b'127.0.0.1'"}
    assert hosts


async def test_two_models_of_confidence_do_not_mix(start: StartGateway, slm: Scripted, weights: Path):
    """The default model's calibrator refuses log-probabilities of another model."""
    router = Cascade(accept=0.6, calibrator=read_trained(Calibrator, STOCK_CALIBRATOR))
    policy = Policy(name="auto", description="x", router=router)
    settings = Settings(local=None, upstreams=[upstream(slm, "slm", model="other-model")])
    gateway = await start(settings, [policy])
    status, _, raw = await gateway.post("/chat/completions", ask(EASY))
    assert status == 400
    error = json.loads(raw)["error"]
    assert error["code"] == "policy_unavailable"
    assert "smollm2-135m-instruct on llamacpp" in error["message"]
    assert "other-model on openai" in error["message"]


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        int(child)
        for child in listed
        if b"gateway.local.llamacpp.server" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def engine_pid() -> int:
    """This process's only child that is an engine."""
    (pid,) = children(os.getpid())
    return pid


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _busy(gateway: Gateway) -> bool:
    return gateway.upstream("slm").waiting > 0


async def until_local(gateway: Gateway) -> tuple[int, dict[str, str], bytes]:
    """Asks the small model by name, which waits for its restart."""
    return await gateway.post("/chat/completions", ask(EASY, model="offline", max_tokens=12))
