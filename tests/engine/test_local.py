"""The real local engine with the real small model, and a scripted LLM."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conftest import Gateway, StartGateway, upstream
from doubles import Reply, Scripted

from gateway.settings import LocalEngine, Settings

pytestmark = pytest.mark.engine

EASY = "What is the opposite of hot? Answer with one word."
HARD = "What is 487 * 316? Answer with the number only."


def ask(question: str, **more: object) -> dict:
    return {"model": "auto", "messages": [{"role": "user", "content": question}], "temperature": 0} | more


def local_settings(*upstreams: dict, **local: object) -> Settings:
    return Settings(local=LocalEngine(threads=1, **local), upstreams=upstreams)


@pytest.fixture
async def real(start: StartGateway, llm: Scripted, weights: Path) -> AsyncIterator[Gateway]:
    llm.says("153892")
    return await start(local_settings(upstream(llm, "llm")))


async def test_an_easy_question_stays_local_and_a_hard_one_escalates(real: Gateway, llm: Scripted):
    _, headers, raw = await real.post("/chat/completions", ask(EASY))
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("slm", "confident")
    assert b"old" in raw
    assert llm.requests == []
    _, headers, raw = await real.post("/chat/completions", ask(HARD))
    assert headers["x-smallfirst-route"] == "llm"
    assert headers["x-smallfirst-reason"] in ("low_confidence", "gave_up")
    assert b"153892" in raw


def engine_pid() -> int:
    """The engine is this process's only child that runs it."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    (pid,) = [int(c) for c in children if b"gateway.local.llamacpp" in Path(f"/proc/{c}/cmdline").read_bytes()]
    return pid
