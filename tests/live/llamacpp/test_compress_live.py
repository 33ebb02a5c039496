"""Prompts compressed by the real small model."""

from pathlib import Path

import pytest
from support.compression_text import QUESTION, SCENE
from support.gateways import StartGateway, upstream
from support.scripted_server import Scripted
from support.strategy_requests import policy
from typer.testing import CliRunner

from gateway.cli import app
from gateway.settings import LocalEngine, Settings
from policies.schema.compress import Compress
from routers.strategies.direct import Direct

pytestmark = [pytest.mark.engine, pytest.mark.heavy]


async def test_the_small_model_shortens_what_the_large_one_reads(
    start: StartGateway, llm: Scripted, weights: Path
):
    section = Compress(
        target_ratio=0.6, min_tokens=50, worth="always", keep=("granite",), question_aware=False
    )
    settings = Settings(local=LocalEngine(threads=1, slots=1), upstreams=[upstream(llm, "llm")])
    asked = [policy(Direct(tier="llm", fallback=False), compress=section)]
    gateway = await start(settings, asked)
    messages = [{"role": "user", "content": f"{SCENE}\n\n{QUESTION}"}]
    status, headers, _ = await gateway.post("/chat/completions", {"model": "test", "messages": messages})
    assert status == 200
    (sent,) = llm.requests
    text = sent["messages"][0]["content"]
    found = (await gateway.exchange(headers["x-smallfirst-id"]))["skills"]["compress"]
    assert "why" not in found, found
    assert found["tokens_after"] == pytest.approx(found["target"], rel=0.05)
    assert text.endswith(f"\n\n{QUESTION}")
    for fixed in ("1741", "340 metres", '{"wick": [1, 2]}', "granite", "seven peacocks"):
        assert fixed in text
    assert text.count("peacocks") == 1


def test_the_command_prints_the_text_and_tells_the_rest_apart(tmp_path: Path, weights: Path):
    file = tmp_path / "scene.txt"
    file.write_text(SCENE, encoding="utf-8")
    settings = tmp_path / "smallfirst.yaml"
    settings.write_text("local: {threads: 1, slots: 1}\n", encoding="utf-8")
    asked = [
        "compress",
        str(file),
        "--target-ratio",
        "0.5",
        "--question",
        QUESTION,
        "--config",
        str(settings),
    ]
    told = CliRunner().invoke(app, asked)
    assert told.exit_code == 0, told.stderr
    assert "340 metres" in told.stdout
    assert len(told.stdout) < 0.7 * len(SCENE)
    assert "tokens_after" in told.stderr
    assert "method: perplexity+question" in told.stderr
