"""llama.cpp's own options and its speculation, on the real engine with the real small model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from gguf import GGUFWriter
from support.gateways import StartGateway
from typer.testing import CliRunner

from gateway.cli import app
from gateway.local.factory import build_local_engine
from gateway.local.supervision.start_progress import StartReport
from gateway.local.supervision.supervisor import EngineFailed
from gateway.local.throughput import measure_throughput
from gateway.local.weights.package_index import DEFAULT_WEIGHTS
from gateway.settings import LocalEngine, Settings
from gateway.upstreams.upstream import Upstream

pytestmark = [pytest.mark.engine, pytest.mark.heavy]

QUESTION = "Repeat this list exactly three times: apple, pear, plum, cherry, grape, melon."
REQUEST = {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": 16}
LAYER, INPUTS, OUTPUTS, RANK = "blk.29.ffn_down.weight", 1536, 576, 2
"""A matrix of SmolLM2-135M, and the rank of the adapter for it."""


@asynccontextmanager
async def run(
    weights: Path, reports: list[StartReport] | None = None, **local: Any
) -> AsyncIterator[Upstream]:
    said = [] if reports is None else reports
    upstream, supervisor = build_local_engine(
        LocalEngine(threads=1, slots=1, context=512, **local), weights, lambda: None, said.append
    )
    try:
        supervisor.start()
        await supervisor.wait_until_ready()
        yield upstream
    finally:
        await supervisor.stop()
        await upstream.close()


async def post(upstream: Upstream, page: str, body: Any) -> Any:
    """POST to a page of the server, by its name or its path."""
    url = upstream.url("tokenize").replace("/tokenize", page) if page.startswith("/") else upstream.url(page)
    call = await upstream.send(url, orjson.dumps(body), stream=False)
    try:
        return orjson.loads(await call.response.read())
    finally:
        call.close()


async def write_text(upstream: Upstream) -> str:
    (text,) = (await measure_throughput(upstream, [REQUEST], 1)).texts
    return text


def write_adapter(path: Path) -> None:
    """A LoRA adapter of random numbers."""
    random = np.random.default_rng(0)
    writer = GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    writer.add_tensor(f"{LAYER}.lora_a", random.normal(size=(RANK, INPUTS)).astype(np.float32))
    writer.add_tensor(f"{LAYER}.lora_b", random.normal(size=(OUTPUTS, RANK)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


async def test_options_and_an_adapter_reach_the_engine(tmp_path: Path, weights: Path):
    """The scorer's window follows the batch, and an adapter does not make its scores wrong."""
    write_adapter(tmp_path / "noise.gguf")
    reports: list[StartReport] = []
    arguments = {"ubatch-size": 64, "cache-type-k": "q8_0", "flash-attn": True, "n-gpu-layers": 99}
    arguments |= {"load-mode": "none", "lora": str(tmp_path / "noise.gguf"), "override-tensor": "blk.0.*=CPU"}
    async with run(weights, reports, arguments=arguments) as upstream:
        assert any("no usable GPU found: n-gpu-layers is ignored" in line for line in map(str, reports))
        with_noise = await write_text(upstream)
        assert upstream.scorer is not None
        assert upstream.scorer.window == 64
        scores = await upstream.scorer.logprobs(partial(post, upstream), list(range(100, 164)), 1)
        assert len(scores) == 63
        await post(upstream, "/lora-adapters", [{"id": 0, "scale": 0.0}])
        assert await write_text(upstream) != with_noise


async def test_a_draft_model_changes_no_text_and_is_counted(start: StartGateway, weights: Path):
    async with run(weights) as upstream:
        alone = await write_text(upstream)
    speculative = {"method": "draft_model", "model": "smollm2-135m-instruct", "num_speculative_tokens": 3}
    local = LocalEngine(threads=1, slots=1, context=512, speculative=speculative)
    gateway = await start(Settings(local=local))
    status, _, raw = await gateway.post("/chat/completions", REQUEST | {"model": "offline"})
    assert status == 200
    assert orjson.loads(raw)["choices"][0]["message"]["content"] == alone
    async with gateway.http.get(f"{gateway.root}/metrics") as response:
        lines = (await response.text()).splitlines()
    shown = dict(line.rsplit(" ", 1) for line in lines if line.startswith("smallfirst_engine_"))
    assert float(shown['smallfirst_engine_draft_tokens_total{upstream="local"}']) > 0
    assert 0.5 < float(shown['smallfirst_engine_acceptance{upstream="local"}']) <= 1.0

    # llama.cpp does not compute the log-probabilities of drafted tokens, so the gateway offers none.
    local_server = gateway.upstream("slm")
    assert not local_server.capabilities.logprobs
    answer = await post(local_server, "chat", REQUEST | {"logprobs": True, "top_logprobs": 2})
    tokens = answer["choices"][0]["logprobs"]["content"]
    assert any(token["logprob"] == 0.0 and not token["top_logprobs"] for token in tokens)


async def test_a_draft_model_of_another_vocabulary_is_an_error(tmp_path: Path, weights: Path):
    """llama.cpp itself would go on without a word, and without speculation."""
    content = (weights / DEFAULT_WEIGHTS.file_name).read_bytes()
    token = len("Ġapple".encode()).to_bytes(8, "little") + "Ġapple".encode()
    other = tmp_path / "other.gguf"
    other.write_bytes(content.replace(token, token[:-1] + b"x", 1))
    speculative = {"method": "draft_model", "model": str(other), "num_speculative_tokens": 3}
    with pytest.raises(EngineFailed, match="does not speculate"):
        async with run(weights, speculative=speculative):
            pass


def test_bench_compares_llama_cpp_with_and_without_a_look_up(tmp_path: Path, weights: Path):
    speculative = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 3}
    local = {"threads": 1, "slots": 1, "context": 512, "speculative": speculative}
    config, questions = tmp_path / "smallfirst.yaml", tmp_path / "questions.txt"
    config.write_bytes(orjson.dumps({"local": local}))
    questions.write_text(QUESTION)
    words = ["models", "bench", str(questions), "--config", str(config), "--max-tokens", "16"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "Same answers as the first run: 1 of 1 with it, 1 without again." in result.output
    (line,) = [line for line in result.output.splitlines() if line.startswith("with speculation")]
    assert int(line.split()[-2].rstrip("%")) > 50
