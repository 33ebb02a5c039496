"""`smallfirst serve` told to end: requests under way are answered, and nothing recorded is lost."""

import asyncio
import signal
from pathlib import Path

import aiohttp
import pytest
from doubles import Reply, Scripted
from processes import serve

from policies.tuning.records import read_records


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
async def test_what_is_under_way_is_answered_and_recorded(
    llm: Scripted, tmp_path: Path, told: signal.Signals
):
    gate = asyncio.Event()
    llm.says(Reply("Cold."), Reply("Cold it is.", gate=gate))
    upstream = {"name": "large", "tier": "llm", "url": llm.url, "model": "large", "key": "sk-test-key"}
    body = {"model": "large", "messages": [{"role": "user", "content": "Hi?"}]}

    async def ask(http: aiohttp.ClientSession) -> bytes:
        async with http.post(f"{url}/v1/chat/completions", json=body) as response:
            return await response.read()

    async with (
        serve(tmp_path, upstreams=[upstream], records={"path": "records"}) as (process, url),
        aiohttp.ClientSession() as http,
    ):
        await ask(http)
        llm.arrived.clear()
        asking = asyncio.create_task(ask(http))
        await llm.arrived.wait()
        process.send_signal(told)
        gate.set()
        assert b"Cold it is." in await asking
        await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 0
    assert len(list(read_records(tmp_path / "records"))) == 2
