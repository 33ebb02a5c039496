"""A disk that is full under the records: requests are answered, the losses are counted, and no line is torn."""

import json
import resource
import shutil
import subprocess
from asyncio.subprocess import Process
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import pytest
from support.gateway_process import serve
from support.scripted_server import Scripted
from support.waiting import until

from policies.records.reader import read_records

LONG = "cold " * 5000
"""Its record fits into no rest of a page."""
ROOM = 1000
"""Bytes of a line that can still be written: it breaks off in the middle."""


class Disk(Protocol):
    folder: Path

    def fill(self, process: Process) -> None: ...

    def clear(self, process: Process) -> None: ...


class LimitedFiles:
    """Whose files can't grow: a write breaks off at the limit, and the next one fails. Needs no privileges."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, process: Process) -> None:
        (path,) = self.folder.glob("*.jsonl")
        self._limit(process, path.stat().st_size + ROOM)

    def clear(self, process: Process) -> None:
        self._limit(process, resource.RLIM_INFINITY)

    def _limit(self, process: Process, size: int) -> None:
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, hard))


class SmallDisk:
    """A file system of its own, and a file that takes what is left of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, process: Process) -> None:
        free = shutil.disk_usage(self.folder).free
        self._filler.write_bytes(bytes(free))

    def clear(self, process: Process) -> None:
        self._filler.unlink()


@pytest.fixture(params=["limited", "small"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "records"
    folder.mkdir()
    if request.param == "limited":
        yield LimitedFiles(folder)
        return
    size = "size=256k"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted: {mounted.stderr.decode().strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_costs_records_and_no_answers(disk: Disk, llm: Scripted, tmp_path: Path):
    body = {"model": "large", "messages": [{"role": "user", "content": LONG}]}
    large = {"name": "large", "tier": "llm", "url": llm.url, "model": "large", "key": "sk-test-key"}
    records = {"path": str(disk.folder), "content": True}

    async with (
        serve(tmp_path, upstreams=[large], records=records, expose_models=True) as (process, url),
        aiohttp.ClientSession() as http,
    ):

        async def ask() -> None:
            async with http.post(f"{url}/v1/chat/completions", json=body) as response:
                assert response.status == 200, await response.text()

        async def dropped(count: int) -> bool:
            async with http.get(f"{url}/metrics") as response:
                return f"smallfirst_records_dropped_total {count}.0" in await response.text()

        async def recorded(count: int) -> bool:
            return len(exchanges(disk.folder)) == count

        await ask()
        await until(lambda: recorded(1))
        disk.fill(process)
        for lost in (1, 2, 3):
            await ask()
            await until(lambda lost=lost: dropped(lost))
        disk.clear(process)
        await ask()
        await until(lambda: recorded(2))
        assert await dropped(3)
    assert len(list(read_records(disk.folder))) == 2


def exchanges(folder: Path) -> list[dict[str, Any]]:
    """Of files that hold whole lines only."""
    text = b"".join(path.read_bytes() for path in folder.glob("*.jsonl"))
    lines = [json.loads(line) for line in text.splitlines()] if text.endswith(b"\n") else []
    return [line for line in lines if line["type"] == "exchange"]
