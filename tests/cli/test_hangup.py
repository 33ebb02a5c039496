"""`smallfirst serve` sent SIGHUP: its policies are loaded anew, unless it is its terminal that has gone."""

import asyncio
import json
import os
import signal
from pathlib import Path

import aiohttp
from processes import serve

UPSTREAM = {
    "name": "large",
    "tier": "llm",
    "url": "http://127.0.0.1:9/v1",
    "model": "large",
    "key": "sk-test",
}
POLICY = "description: For tests.\nrouter: {kind: direct, tier: llm}\n"


async def test_a_hangup_loads_the_policies_anew(tmp_path: Path):
    folder = tmp_path / "policies"
    folder.mkdir()
    policies = {"folder": str(folder), "reload": None}

    async def known() -> list[str]:
        async with http.get(f"{url}/v1/models") as response:
            return [model["id"] for model in json.loads(await response.read())["data"]]

    async with (
        serve(tmp_path, upstreams=[UPSTREAM], policies=policies) as (process, url),
        aiohttp.ClientSession() as http,
    ):
        (folder / "new.yaml").write_text(POLICY)
        assert "new" not in await known()
        process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(20):
            while "new" not in await known():
                pass
        (folder / "new.yaml").write_text(POLICY + "colour: red\n")
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        while b"colour" not in (line := await asyncio.wait_for(process.stderr.readline(), 20)):
            pass
        assert line.decode().endswith(
            f"policies stay as they were: {folder}/new.yaml:3: colour: unknown key\n"
        )
        assert "new" in await known()


async def test_what_was_started_in_a_terminal_ends_with_it(tmp_path: Path):
    terminal, stdin = os.openpty()
    async with serve(tmp_path, stdin, upstreams=[UPSTREAM]) as (process, _):
        os.close(stdin)
        os.close(terminal)
        process.send_signal(signal.SIGHUP)
        await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 0


async def test_a_hangup_that_leaves_the_terminal_there_ends_nothing(tmp_path: Path):
    terminal, stdin = os.openpty()
    async with (
        serve(tmp_path, stdin, upstreams=[UPSTREAM]) as (process, url),
        aiohttp.ClientSession() as http,
    ):
        process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(20):
            while b'reloads_total{outcome="ok"} 1.0' not in await metrics(http, url):
                pass
        assert process.returncode is None
    os.close(stdin)
    os.close(terminal)


async def metrics(http: aiohttp.ClientSession, url: str) -> bytes:
    async with http.get(f"{url}/metrics") as response:
        return await response.read()
