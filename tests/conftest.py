"""Shared by all tests: a clean environment, and gateways whose records must replay."""

import gc
from collections.abc import AsyncIterator, Generator, Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as examples
from support.gateways import Gateway, StartGateway, gateway_of, settings_of, simple_policy, upstream
from support.scripted_server import Scripted, scripted

from gateway.data_folder import data_folder
from gateway.settings import Settings, load_settings
from policies.schema.split import AnyPolicy

pytest_plugins = ["support.coverage_tracing"]

# Properties are not timed: a slow machine proves nothing about them.
examples.register_profile(
    "untimed", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
examples.load_profile("untimed")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """All that is imported stays: looking for garbage in it took a quarter of the time until the first test."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def data_home(tmp_path_factory: pytest.TempPathFactory) -> Generator[None, None, None]:
    """A data folder without this user's calibrators; the weights and what is known of them are shared."""
    real, own = data_folder(), tmp_path_factory.mktemp("data") / "smallfirst"
    own.mkdir()
    (real / "fingerprints").mkdir(parents=True, exist_ok=True)
    for name in ("models", "fingerprints"):
        if (real / name).is_dir():
            (own / name).symlink_to(real / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(own.parent))
        yield


@pytest.fixture
async def slm() -> AsyncIterator[Scripted]:
    async with scripted("small") as server:
        yield server


@pytest.fixture
async def llm() -> AsyncIterator[Scripted]:
    async with scripted("large") as server:
        yield server


@pytest.fixture
async def spare() -> AsyncIterator[Scripted]:
    """One more server, for either tier."""
    async with scripted("spare") as server:
        yield server


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[StartGateway]:
    """Starts gateways: `await start(settings, policies)`."""
    async with AsyncExitStack() as stack:
        count = 0

        async def one(settings: Settings, policies: Iterable[AnyPolicy] = ()) -> Gateway:
            nonlocal count
            count += 1
            served = await stack.enter_async_context(
                gateway_of(settings, tmp_path / f"records-{count}", policies)
            )
            http = await stack.enter_async_context(aiohttp.ClientSession())
            gateway = Gateway(served, http)
            stack.push_async_callback(gateway.client.close)
            return gateway

        yield one


@pytest.fixture
async def gateway(start: StartGateway, slm: Scripted, llm: Scripted) -> Gateway:
    """Both tiers scripted; the policy `test` is a cascade with the simple calibrator."""
    return await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [simple_policy()])


@pytest.fixture(scope="session")
def weights() -> Path:
    """The default weights, where they are; else the test is skipped."""
    folder = load_settings().models_folder
    if not (folder / "SmolLM2-135M-Instruct.Q4_1.gguf").is_file():
        pytest.skip("the default weights are not here: smallfirst models pull")
    return folder
