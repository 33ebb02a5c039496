"""The real vLLM under the real supervisor, drafted for by a layer less of its own model: minutes on a CPU."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from support.fake_engine import alive
from support.gateway_process import serve
from support.gateways import Gateway, gateway_of, simple_calibrator, upstream
from support.scripted_server import Scripted, scripted
from support.waiting import until

from benchmarks.vllm.environment import python
from gateway.local.settings import LocalEngine
from gateway.local.vllm.parser_registry import read_reasoning_parsers, read_tool_parsers
from gateway.local.vllm.tool_parsers import DIALECTS
from gateway.settings import Settings
from policies.schema.policy import Policy
from routers.strategies.cascade import Cascade
from routers.strategies.direct import Direct

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.heavy,
    pytest.mark.timeout(900),
    pytest.mark.asyncio(loop_scope="module"),
]

HOME_FIRST = Policy(name="home-first", description="For tests.", router=Direct(tier="slm", fallback=True))
CAREFUL = Policy(
    name="careful-draft",
    description="For tests.",
    router=Cascade(
        accept=0.99, give_up=0.001, commit=0.999, calibrator=simple_calibrator("smollm2", engine="vllm")
    ),
)
TEMPLATE = (
    "{% if tools %}{{ '<|im_start|>system\nTools: ' + (tools | tojson) + '\nTo call one, write"
    ' <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>\n\' }}{% endif %}'
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' and not tools %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The model's own chat template, which has no tools, and tools in the dialect of `hermes`."""

STARTING = 600.0
"""Seconds that a start may take on a machine that has other work."""


@pytest.fixture(scope="module")
def engine(vllm_models: Path) -> LocalEngine:
    return LocalEngine(
        engine="vllm",
        model=str(vllm_models / "smollm2"),
        python=python(),
        arguments={"dtype": "float32", "enforce-eager": True, "chat-template": TEMPLATE},
        environment={"VLLM_CPU_KVCACHE_SPACE": "1"},
        speculative={
            "method": "draft_model",
            "model": str(vllm_models / "smollm2-29"),
            "num_speculative_tokens": 3,
        },
        slots=8,
    )


@dataclass
class Managed:
    gateway: Gateway
    llm: Scripted
    others: dict[int, str]
    """Servers that other tests have started."""

    def processes(self) -> dict[int, str]:
        """Its own, by their ids, and as they call themselves."""
        return {pid: name for pid, name in family(os.getpid()).items() if pid not in self.others}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def managed(engine: LocalEngine, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Managed]:
    records = tmp_path_factory.mktemp("records")
    others = family(os.getpid())
    async with scripted("large") as llm, aiohttp.ClientSession() as http:
        llm.says("Cold, says the cloud.")
        settings = Settings(local=engine, upstreams=[upstream(llm, "llm")])
        async with gateway_of(settings, records, [HOME_FIRST, CAREFUL]) as served:
            gateway = Gateway(served, http)
            yield Managed(gateway, llm, others)
            await gateway.client.close()
    assert (
        family(os.getpid()).keys() <= others.keys()
    )  # it was ended in its own way, with all of its processes


def ask(question: str = "What is the capital of France?", **more: object) -> dict:
    messages = [{"role": "user", "content": question}]
    return {"model": "home-first", "messages": messages, "temperature": 0, "max_tokens": 24} | more


async def test_it_answers_with_log_probabilities(managed: Managed):
    status, headers, raw = await managed.gateway.post("/chat/completions", ask(logprobs=True, top_logprobs=3))
    assert (status, headers["x-smallfirst-route"]) == (200, "slm")
    choice = json.loads(raw)["choices"][0]
    assert "Paris" in choice["message"]["content"]
    assert all(len(token["top_logprobs"]) == 3 for token in choice["logprobs"]["content"])


async def test_it_drafts_for_a_cascade(managed: Managed):
    _, headers, raw = await managed.gateway.post("/chat/completions", ask(model="careful-draft", stream=True))
    exchange = await managed.gateway.exchange(headers["x-smallfirst-id"])
    assert exchange["confidence"] is not None
    assert exchange["calls"][0]["tier"] == "slm"
    assert b"[DONE]" in raw


async def test_the_parsers_that_are_chosen_are_vllms(vllm_models: Path):
    (installed,) = python().parents[1].glob("lib/python*/site-packages/vllm")
    assert {dialect.parser for dialect in DIALECTS} <= read_tool_parsers(installed)
    assert "qwen3" in read_reasoning_parsers(installed)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_its_tool_calls_are_parsed(managed: Managed, stream: bool):
    """The parser is chosen by the template. The model is too small to call tools by itself, so a grammar has it write
    the call; that it is a call is for vLLM's parser to see."""
    call = r'<tool_call>\{"name": "look", "arguments": \{"where": "(sea|sky)"\}\}</tool_call>'
    more = {"tools": [LOOK], "structured_outputs": {"regex": call}, "max_tokens": 60, "stream": stream}
    status, headers, raw = await managed.gateway.post("/chat/completions", ask("Look at the sea.", **more))
    assert status == 200, raw
    exchange = await managed.gateway.exchange(headers["x-smallfirst-id"])
    assert [call["tier"] for call in exchange["calls"]] == ["slm"]
    name, arguments, finish = called(raw) if stream else called_at_once(raw)
    assert (name, finish) == ("look", "tool_calls")
    assert json.loads(arguments)["where"] in ("sea", "sky")


LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"type": "object", "properties": {"where": {"type": "string"}}},
    },
}


def called_at_once(raw: bytes) -> tuple[str, str, str]:
    """The call's name and arguments, and the finish reason."""
    (choice,) = json.loads(raw)["choices"]
    (call,) = choice["message"]["tool_calls"]
    return call["function"]["name"], call["function"]["arguments"], choice["finish_reason"]


def called(raw: bytes) -> tuple[str, str, str]:
    """The same of a stream."""
    lines = [line[6:] for line in raw.splitlines() if line.startswith(b"data: {")]
    choices = [choice for line in lines for choice in json.loads(line)["choices"]]
    parts = [part["function"] for choice in choices for part in choice["delta"].get("tool_calls") or ()]
    name, arguments = ("".join(part.get(key) or "" for part in parts) for key in ("name", "arguments"))
    return name, arguments, next(choice["finish_reason"] for choice in choices if choice["finish_reason"])


async def test_what_it_drafted_and_accepted_stands_in_our_metrics(managed: Managed):
    await managed.gateway.post("/chat/completions", ask("Count from one to twenty.", max_tokens=60))
    async with managed.gateway.http.get(f"{managed.gateway.root}/metrics") as response:
        lines = (await response.text()).splitlines()
    shown = {line.split(" ")[0]: float(line.split(" ")[1]) for line in lines if not line.startswith("#")}
    drafted = shown['smallfirst_engine_draft_tokens_total{upstream="local"}']
    accepted = shown['smallfirst_engine_accepted_tokens_total{upstream="local"}']
    assert 0 < accepted < drafted
    assert shown['smallfirst_engine_acceptance{upstream="local"}'] == pytest.approx(accepted / drafted)
    assert shown['smallfirst_engine_generation_tokens_total{upstream="local"}'] > 0


async def test_what_it_refuses_while_it_speculates_goes_to_the_large_model(managed: Managed):
    """That it refuses is asked of itself, past the gateway."""
    local = managed.gateway.upstream("slm")
    body = {"model": local.model, "messages": [{"role": "user", "content": "Hi"}], "min_p": 0.1}
    async with managed.gateway.http.post(
        local.url("chat"), json=body, headers=local.probe.headers
    ) as response:
        assert response.status == 400
        assert "min_p" in await response.text()
    status, headers, _ = await managed.gateway.post("/chat/completions", ask(min_p=0.1))
    assert (status, headers["x-smallfirst-route"]) == (200, "llm")


async def test_kill_9_under_load_loses_no_request_and_it_comes_back(managed: Managed):
    before = managed.processes()
    asking = [
        asyncio.create_task(
            managed.gateway.post(
                "/chat/completions", ask("Tell a long story.", max_tokens=200, stream=stream)
            )
        )
        for stream in (True, False) * 4
    ]
    local = managed.gateway.upstream("slm")
    await until(lambda: local.load == len(asking), 60)
    os.kill(next(pid for pid, name in before.items() if "EngineCore" in name), signal.SIGKILL)
    await until(lambda: not local.is_up, 60)
    for status, headers, raw in await asyncio.gather(*asking):
        assert (status, headers["x-smallfirst-route"]) == (200, "llm")
        assert b"cloud." in raw
        assert b'"error"' not in raw
    await until(lambda: local.is_up, STARTING)
    assert before.keys().isdisjoint(managed.processes())
    _, headers, raw = await managed.gateway.post("/chat/completions", ask())
    assert headers["x-smallfirst-route"] == "slm"
    assert b"Paris" in raw


async def test_serve_shows_its_start_and_no_process_or_file_outlives_serves_kill_9(
    engine: LocalEngine, tmp_path: Path
):
    local = engine.model_dump(mode="json", exclude_unset=True)
    async with serve(tmp_path, local=local) as (process, url), aiohttp.ClientSession() as http:
        assert process.stderr is not None
        told: list[bytes] = []
        while not told or b"ready" not in told[-1]:
            told.append(await asyncio.wait_for(process.stderr.readline(), STARTING))
        async with http.get(f"{url}/health/ready") as response:
            assert response.status == 200
        found = family(process.pid)
        assert {"VLLM::EngineCore", "VLLM::Worker"} <= set(found.values())
        temporary = folder_of(next(pid for pid, name in found.items() if "api_server" in name))
        assert list(temporary.iterdir())
        process.kill()
        await process.communicate()
        await until(lambda: not any(map(alive, found)) and not temporary.exists(), 60)
    stages = b"".join(told)
    assert stages.index(b"loading the weights") < stages.index(b"warming up") < stages.index(b"vLLM: ready")


def folder_of(pid: int) -> Path:
    """A process's folder for temporary files."""
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return Path(next(line[7:].decode() for line in variables if line.startswith(b"TMPDIR=")))


def family(pid: int) -> dict[int, str]:
    """What a gateway's engine consists of: the processes of the group that its keeper leads, by their ids, and as
    they call themselves."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, group = (process / "stat").read_text().rpartition(")")[2].split()[:3]
            name = (process / "cmdline").read_bytes().rstrip(b"\0").decode()
        except OSError:
            continue  # it has ended meanwhile
        if state != "Z":
            found[int(process.name)] = (name, int(parent), int(group))
    keepers = {one for one, (_, parent, group) in found.items() if parent == pid and group == one}
    return {one: name for one, (name, _, group) in found.items() if group in keepers}
