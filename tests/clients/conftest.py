"""One gateway for all of a client's tests, which serves the built-in policies from two scripted servers."""

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import count
from typing import NamedTuple

import aiohttp
import pytest
import pytest_asyncio
from support.client_scenarios import POLICIES, SMALL, Case, booked
from support.gateways import Gateway, gateway_of, settings_of, upstream
from support.scripted_server import Scripted, scripted

_numbers = count(1)


class Tiers(NamedTuple):
    gateway: Gateway
    slm: Scripted
    llm: Scripted


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tiers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tiers]:
    async with AsyncExitStack() as stack:
        slm = await stack.enter_async_context(scripted(SMALL.model))
        slm.llamacpp = True
        llm = await stack.enter_async_context(scripted("large"))
        settings = settings_of(
            upstream(slm, "slm", engine=SMALL.engine, name="small-server"), upstream(llm, "llm", cloud=True)
        )
        served = await stack.enter_async_context(gateway_of(settings, tmp_path_factory.mktemp("records")))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        gateway = Gateway(served, http)
        stack.push_async_callback(gateway.client.close)
        yield Tiers(gateway, slm, llm)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deserted(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The URL of a gateway behind which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # taken, but nobody listens
        slm, llm = Scripted(SMALL.model), Scripted("large")
        slm.url = llm.url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        settings = settings_of(upstream(slm, "slm", engine=SMALL.engine), upstream(llm, "llm"))
        async with gateway_of(settings, tmp_path_factory.mktemp("deserted")) as served:
            yield served.url


@pytest_asyncio.fixture(loop_scope="module")
async def case(tiers: Tiers, policy_name: str, sure: bool) -> Case:
    """The servers remember nothing of other cases, and the gateway holds nothing against them."""
    for pool in tiers.gateway.app.pools.values():
        for one in pool.upstreams:
            one.breaker.record_success()
    for server in (tiers.slm, tiers.llm):
        server.forget()
    question = f"What is the opposite of hot? ({next(_numbers)})"
    return Case(*tiers, POLICIES[policy_name], sure, question, await booked(tiers.gateway))
