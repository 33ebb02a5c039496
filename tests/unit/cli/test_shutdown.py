"""Commands told to end. `smallfirst serve`: requests under way are answered, and nothing recorded is lost."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import aiohttp
import pytest
from support.gateway_process import serve
from support.scripted_server import Reply, Scripted
from support.waiting import soon

from policies.records.reader import read_records


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
        await soon(process.communicate())
        assert process.returncode == 0
    assert len(list(read_records(tmp_path / "records"))) == 2


async def test_a_command_that_serves_itself_ends_with_ctrl_c(slm: Scripted, tmp_path: Path):
    """Whatever it waits for."""
    slm.says(Reply("Cold.", gate=asyncio.Event()))
    upstream = {"name": "small", "tier": "slm", "url": slm.url, "model": "small", "engine": "llamacpp"}
    config = tmp_path / "smallfirst.yaml"
    config.write_text(json.dumps({"local": None, "upstreams": [upstream]}))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "collect", str(tmp_path / "drafts"), "--config", str(config)),
        stdout=PIPE,
        stderr=PIPE,
        preexec_fn=_as_in_a_terminal,
    )
    try:
        await soon(slm.arrived.wait())
        process.send_signal(signal.SIGINT)
        await soon(process.communicate())
        assert process.returncode == 130
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def _as_in_a_terminal() -> None:
    """Where the tests run in a shell's background, Ctrl-C is ignored, by what they start as well."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
