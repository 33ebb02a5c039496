"""LangChain's standard suite for chat models, unmodified, over the gateway."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from support.client_environments import SUITES, NotInstalled, install
from support.client_scenarios import SMALL
from support.gateways import gateway_of, settings_of, upstream
from support.obedient_model import obedient_model

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.heavy]

OPTIONS = {
    "addopts": "",
    "filterwarnings": "",
    "asyncio_mode": "auto",
    "asyncio_default_fixture_loop_scope": "session",  # the client keeps its connections for all tests
    "asyncio_default_test_loop_scope": "session",
}
MIN_PASSED = 42
"""The others need another provider's features (Anthropic's inputs, images, recordings), and are skipped."""


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        return install("langchain") / "python"
    except NotInstalled as reason:
        pytest.skip(str(reason))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The URL of a gateway between two models that do as they are told."""
    async with AsyncExitStack() as stack:
        slm = await stack.enter_async_context(obedient_model(SMALL.model))
        llm = await stack.enter_async_context(obedient_model("large"))
        settings = settings_of(
            upstream(slm, "slm", engine=SMALL.engine, name="small-server"), upstream(llm, "llm", cloud=True)
        )
        served = await stack.enter_async_context(gateway_of(settings, tmp_path_factory.mktemp("records")))
        yield served.url


@pytest.mark.parametrize("model", ["auto", "large"])
async def test_the_standard_suite_passes(python: Path, url: str, model: str):
    options = [f"--override-ini={name}={value}" for name, value in OPTIONS.items()]
    process = await asyncio.create_subprocess_exec(
        *(str(python), "-m", "pytest", "--noconftest", "-c", os.devnull, "--rootdir", str(SUITES), "-rfE"),
        *("-p", "no:cacheprovider", "-p", "no:langsmith_plugin", *options),
        str(SUITES / "langchain_suite.py"),
        env={"PATH": os.environ["PATH"], "SMALLFIRST_URL": url, "SMALLFIRST_MODEL": model},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output[-4000:]
    passed = re.search(r"(\d+) passed", output)
    assert passed is not None, output[-4000:]
    assert int(passed[1]) >= MIN_PASSED
