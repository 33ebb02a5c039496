"""Real vLLM servers: each takes half a minute to start, so all tests share few."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.vllm.environment import lacking, models
from benchmarks.vllm.server import Server, vllm

TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser=hermes")
"""Without these it refuses requests with tools that leave the choice to the model."""


@pytest.fixture(scope="session")
def vllm_models() -> Path:
    """The folder of `smollm2` and `smollm2-29`, where there is a vLLM to serve them; else the test is skipped."""
    if why := lacking():
        pytest.skip(why)
    return models()


@pytest.fixture(scope="session")
def vllm_server(vllm_models: Path) -> Iterator[Server]:
    """The default weights, all 30 layers: as `smollm2`."""
    with vllm(vllm_models / "smollm2", *TOOLS, core=0) as server:
        yield server


@pytest.fixture(scope="session")
def vllm_draft_server(vllm_models: Path) -> Iterator[Server]:
    """Their first 29 layers: as `smollm2-29`."""
    with vllm(vllm_models / "smollm2-29", core=1) as server:
        yield server
