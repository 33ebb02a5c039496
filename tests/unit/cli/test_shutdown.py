"""Commands told to end. `smallfirst serve`: requests under way are answered, and nothing recorded is lost."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from support.gateway_process import serve
from support.scripted_server import Reply, Scripted
from support.waiting import soon, until

from policies.records.differences import find_differences
from policies.records.reader import LeftOut, read_records
from policies.records.replay import replay
from policies.records.schema import Record


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
        serve(tmp_path, upstreams=[upstream], records={"path": "records"}, expose_models=True) as (
            process,
            url,
        ),
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


CHAT = {"model": "large", "messages": [{"role": "user", "content": "Hi?"}]}
JUDGEMENT = {
    "messages": CHAT["messages"],
    "output": "Hello.",
    "evaluators": [{"kind": "agree", "tier": "llm", "samples": 1}],
}


class Ended(NamedTuple):
    """What the client of a request got that the gateway ended."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def error(self) -> Any:
        return json.loads(self.text)["error"]


class Asking:
    """A request of a client that waits for the rest of its answer. `begun` is set once it has a part of it."""

    def __init__(self, http: aiohttp.ClientSession, url: str, body: Any) -> None:
        self.begun = asyncio.Event()
        self.task = asyncio.create_task(self._ask(http, url, body))

    async def _ask(self, http: aiohttp.ClientSession, url: str, body: Any) -> Ended:
        async with http.post(url, json=body) as response:
            first = await response.content.readany()
            self.begun.set()
            text = first + await response.content.read()
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Ended(response.status, headers, text.decode())


@asynccontextmanager
async def serve_endless(
    folder: Path, llm: Scripted, drain: float
) -> AsyncIterator[tuple[Process, str, aiohttp.ClientSession]]:
    """A gateway whose upstream never ends its answers."""
    llm.says(Reply("Cold it is.", gate=asyncio.Event(), gate_at=1))
    upstream = {"name": "large", "tier": "llm", "url": llm.url, "model": "large", "key": "sk-test-key"}
    config: Any = {"upstreams": [upstream], "records": {"path": "records"}, "listen": {"drain": drain}}
    config["expose_models"] = True
    async with serve(folder, **config) as (process, url), aiohttp.ClientSession() as http:
        yield process, url, http


async def check_end(process: Process, folder: Path) -> list[Record]:
    """The gateway ends without a traceback. Return its records, which say that it ended their exchanges."""
    _, printed = await soon(process.communicate())
    assert (process.returncode, b"Traceback" in printed) == (0, False), printed.decode()
    left_out = LeftOut()
    records = list(read_records(folder / "records", left_out))
    assert left_out.lines == 0
    for record in records:
        exchange = record.exchange
        assert (exchange.status, exchange.error, exchange.cancelled) == (503, "shutting_down", False)
        assert [call.outcome for call in exchange.calls] == ["shutdown"]
        assert exchange.calls[0].usage.prompt_tokens > 0
        assert find_differences(replay(record)) == []
    return records


async def is_closed(url: str) -> bool:
    """Return whether the gateway has noticed that it is to end, and listens no more."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


async def test_what_still_runs_after_the_drain_time_ends_with_an_error(llm: Scripted, tmp_path: Path):
    async with serve_endless(tmp_path, llm, 0.05) as (process, url, http):
        plain = Asking(http, f"{url}/v1/chat/completions", CHAT)
        stream = Asking(http, f"{url}/v1/chat/completions", CHAT | {"stream": True})
        response = Asking(http, f"{url}/v1/responses", {"model": "large", "input": "Hi?", "stream": True})
        judgement = Asking(http, f"{url}/v1/evaluate", JUDGEMENT)
        await soon(asyncio.gather(stream.begun.wait(), response.begun.wait()))
        await until(lambda: len(llm.requests) == 4)
        process.send_signal(signal.SIGTERM)
        for ended in (await soon(plain.task), await soon(judgement.task)):
            assert (ended.status, ended.headers["content-type"]) == (503, "application/json")
            error = ended.error
            assert (error["code"], error["type"], error["param"]) == ("shutting_down", "server_error", None)
        assert (await plain.task).headers["retry-after"] == "1"
        events = [
            json.loads(line[6:])
            for line in (await soon(stream.task)).text.splitlines()
            if line.startswith("data: ")
        ]
        assert [event["choices"][0]["delta"].get("content") for event in events[:-1]][-1] == "Cold"
        assert events[-1]["error"]["code"] == "shutting_down"
        *_, last = (await soon(response.task)).text.strip().split("\n\n")
        assert (last.split("\n")[0], "is shutting down" in last) == ("event: response.failed", True)
        assert len(await check_end(process, tmp_path)) == 4


async def test_a_second_interrupt_ends_them_at_once(llm: Scripted, tmp_path: Path):
    async with serve_endless(tmp_path, llm, 3600) as (process, url, http):
        asking = Asking(http, f"{url}/v1/chat/completions", CHAT)
        await soon(llm.holding.wait())
        process.send_signal(signal.SIGINT)
        await until(lambda: is_closed(url))
        process.send_signal(signal.SIGINT)
        ended = await soon(asking.task)
        assert (ended.status, ended.error["code"]) == (503, "shutting_down")
        assert len(await check_end(process, tmp_path)) == 1


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
