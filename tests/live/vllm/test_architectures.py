"""Three architectures on real vLLM, from tiny checkpoints with random weights; and vLLM killed under load."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.gateways import Gateway, StartGateway, settings_of, simple_calibrator, simple_policy, upstream
from support.scripted_server import Scripted
from support.waiting import until

from benchmarks.vllm.environment import python, server_environment
from benchmarks.vllm.server import Server, vllm

pytestmark = [pytest.mark.vllm, pytest.mark.heavy]

SHOWN = {
    "llama": "Resolved architecture: LlamaForCausalLM",
    "gemma": "Resolved architecture: Gemma3ForCausalLM",
    "mla": "_MLA backend",
}
"""What a server's log says of its model."""

CLIENTS = 12

CONTEXT = 32768
"""Tokens: so many that no draft is at its end before its server is killed, however fast that one is."""


@pytest.fixture(scope="module")
def checkpoints(vllm_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    script = Path(__file__).parents[2] / "support" / "tiny_checkpoints.py"
    command = [str(python()), str(script), str(vllm_models / "smollm2"), str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=120, env=server_environment())
    return folder


@pytest.fixture(scope="module", params=SHOWN)
def tiny(request: pytest.FixtureRequest, checkpoints: Path) -> Iterator[Server]:
    with vllm(checkpoints / request.param, f"--max-model-len={CONTEXT}") as server:
        yield server


@pytest.fixture
async def gateway(start: StartGateway, tiny: Server, llm: Scripted) -> Gateway:
    """The policy `test` holds its drafts, `flowing` lets them flow from the first token."""
    calibrator = simple_calibrator(model=tiny.model, engine="vllm")
    held = simple_policy(calibrator=calibrator, accept=0.0, commit=None, give_up=None)
    flowing = simple_policy(calibrator=calibrator, accept=0.0, commit=0.0, give_up=None)
    fields = {
        "name": "vllm",
        "tier": "slm",
        "url": tiny.url,
        "model": tiny.model,
        "engine": "vllm",
        "probe": 0,
    }
    llm.says("It is what it is.")
    return await start(
        settings_of(fields, upstream(llm, "llm", engine="vllm")),
        [held, flowing.model_copy(update={"name": "flowing"})],
    )


def ask(model: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Tell me about the sea."}]
    return {"model": model, "messages": messages, "temperature": 0, "stream": True} | more


async def test_its_stream_has_log_probabilities_and_signals(gateway: Gateway, tiny: Server):
    assert SHOWN[tiny.model] in tiny.log.read_text(encoding="utf-8")
    asked = ask("test", max_tokens=12, ignore_eos=True, logprobs=True, top_logprobs=2)
    _, headers, raw = await gateway.post("/chat/completions", asked)
    found = await gateway.exchange(headers["x-smallfirst-id"])
    assert (found["route"], found["reason"]) == ("slm", "confident")
    # Random weights know nothing: each of 49,152 tokens is about as likely.
    assert 0 < found["confidence"] < 1e-9
    chunks = [json.loads(line[6:]) for line in raw.decode().splitlines() if line.startswith("data: {")]
    tokens = [
        token
        for chunk in chunks
        for choice in chunk["choices"]
        for token in (choice.get("logprobs") or {"content": []})["content"]
    ]
    assert len(tokens) == 12
    assert all(-12 < token["logprob"] < -7 and len(token["top_logprobs"]) == 2 for token in tokens)


async def test_kill_9_under_load_loses_no_request(gateway: Gateway, tiny: Server, llm: Scripted):
    """Held drafts are replaced by the large model, those that flow are continued by it. Words drawn at random,
    for greedy ones go round in circles, which is found out before the server dies."""
    forms = [("test", False), ("test", True), ("flowing", True)]
    more = {"max_tokens": CONTEXT - 100, "ignore_eos": True, "temperature": 1}
    asking = asyncio.gather(
        *(
            gateway.post("/chat/completions", ask(model, stream=stream, seed=seed, **more))
            for seed in range(CLIENTS // len(forms))
            for model, stream in forms
        )
    )

    async def half_written() -> bool:
        return await asyncio.to_thread(tiny.metric, "vllm:generation_tokens_total") >= 60 * CLIENTS

    await until(half_written, 60)
    os.kill(tiny.process.pid, signal.SIGKILL)
    routes = []
    for status, headers, raw in await asking:
        assert status == 200
        assert b'"error"' not in raw
        assert b'"finish_reason":"stop"' in raw.replace(b" ", b"")
        found = await gateway.exchange(headers["x-smallfirst-id"])
        outcomes = [call["outcome"] for call in found["calls"]]
        assert (outcomes[0], outcomes[-1]) == ("lost", "ok")
        routes.append(found["route"])
    assert sorted(set(routes)) == ["llm", "slm+llm"]
    assert len(llm.requests) == CLIENTS
