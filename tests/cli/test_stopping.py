"""`smallfirst serve` told to end: requests under way are answered, and nothing recorded is lost."""

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest
from doubles import Reply, Scripted

from policies.tuning.records import read_records


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
async def test_what_is_under_way_is_answered_and_recorded(
    llm: Scripted, tmp_path: Path, told: signal.Signals
):
    gate = asyncio.Event()
    llm.says(Reply("Cold."), Reply("Cold it is.", gate=gate))
    port = free_port()
    upstream = {"name": "large", "tier": "llm", "url": llm.url, "model": "large", "key": "sk-test-key"}
    config = {
        "listen": {"port": port},
        "local": None,
        "upstreams": [upstream],
        "records": {"path": "records"},
    }
    (tmp_path / "smallfirst.yaml").write_text(json.dumps(config))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "serve", "--config", str(tmp_path / "smallfirst.yaml")),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stderr is not None
    while b"Try:" not in await asyncio.wait_for(process.stderr.readline(), 30):
        pass
    body = {"model": "large", "messages": [{"role": "user", "content": "Hi?"}]}
    url = f"http://127.0.0.1:{port}/v1/chat/completions"

    async def ask(http: aiohttp.ClientSession) -> bytes:
        async with http.post(url, json=body) as response:
            return await response.read()

    async with aiohttp.ClientSession() as http:
        while True:
            try:
                await ask(http)
                break
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.05)
        llm.arrived.clear()
        asking = asyncio.create_task(ask(http))
        await llm.arrived.wait()
        process.send_signal(told)
        gate.set()
        assert b"Cold it is." in await asking
    await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0
    assert len(list(read_records(tmp_path / "records"))) == 2
