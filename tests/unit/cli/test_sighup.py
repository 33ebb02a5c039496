"""`smallfirst serve` sent SIGHUP: its policies are loaded anew, unless it is its terminal that has gone."""

import json
import os
import signal
from pathlib import Path

import aiohttp
from support.gateway_process import serve
from support.waiting import soon, until

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

    async def knows_new() -> bool:
        async with http.get(f"{url}/v1/models") as response:
            return "new" in [model["id"] for model in json.loads(await response.read())["data"]]

    async with (
        serve(tmp_path, upstreams=[UPSTREAM], policies=policies) as (process, url),
        aiohttp.ClientSession() as http,
    ):
        (folder / "new.yaml").write_text(POLICY)
        assert not await knows_new()
        process.send_signal(signal.SIGHUP)
        await until(knows_new)
        (folder / "new.yaml").write_text(POLICY + "colour: red\n")
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        while b"colour" not in (line := await soon(process.stderr.readline())):
            pass
        assert line.decode().endswith(
            f"policies stay as they were: {folder}/new.yaml:3: colour: unknown key\n"
        )
        assert await knows_new()


async def test_what_was_started_in_a_terminal_ends_with_it(tmp_path: Path):
    terminal, stdin = os.openpty()
    async with serve(tmp_path, stdin, upstreams=[UPSTREAM]) as (process, _):
        os.close(stdin)
        os.close(terminal)
        process.send_signal(signal.SIGHUP)
        await soon(process.communicate())
        assert process.returncode == 0


async def test_a_hangup_that_leaves_the_terminal_there_ends_nothing(tmp_path: Path):
    terminal, stdin = os.openpty()
    async with (
        serve(tmp_path, stdin, upstreams=[UPSTREAM]) as (process, url),
        aiohttp.ClientSession() as http,
    ):
        process.send_signal(signal.SIGHUP)

        async def reloaded() -> bool:
            return b'reloads_total{outcome="ok"} 1.0' in await metrics(http, url)

        await until(reloaded)
        assert process.returncode is None
    os.close(stdin)
    os.close(terminal)


async def metrics(http: aiohttp.ClientSession, url: str) -> bytes:
    async with http.get(f"{url}/metrics") as response:
        return await response.read()
