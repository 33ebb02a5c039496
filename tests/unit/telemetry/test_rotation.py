"""Record files that are rotated under a running gateway: each can be read alone, and no exchange is lost to it."""

import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.gateways import Gateway, settings_of, simple_policy, upstream
from support.scripted_server import Scripted
from support.strategy_requests import ASK
from support.waiting import until

from gateway.cli.loopback_gateway import run_gateway
from gateway.telemetry.settings import RecordSettings
from policies.records.differences import find_differences
from policies.records.reader import read_records
from policies.records.replay import replay

Ask = Callable[[], Any]


@pytest.fixture
async def gateway(slm: Scripted, llm: Scripted, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that records into the folder `records`."""
    settings = settings_of(
        upstream(slm, "slm"), upstream(llm, "llm"), records=RecordSettings(path=tmp_path / "records")
    )
    async with run_gateway(settings, [simple_policy()]) as served, aiohttp.ClientSession() as http:
        gateway = Gateway(served, http)
        yield gateway
        await gateway.client.close()


async def record_one(gateway: Gateway, folder: Path) -> Path:
    """Asks something, and returns the file that holds its record once that is written."""
    _, headers, _ = await gateway.post("/chat/completions", ASK)
    wanted = headers["x-smallfirst-id"].encode()

    def holders() -> list[Path]:
        return [path for path in folder.glob("*.jsonl") if wanted in path.read_bytes()]

    (path,) = await until(holders)
    return Path(path)


def rename(path: Path) -> None:
    path.rename(path.with_name("0.jsonl"))


def create(path: Path) -> None:
    """As logrotate does with `create`."""
    rename(path)
    path.touch(0o600)


def copy_and_truncate(path: Path) -> None:
    shutil.copy(path, path.with_name("0.jsonl"))
    truncate(path)


def truncate(path: Path) -> None:
    path.write_bytes(b"")


def restore(path: Path) -> None:
    """An older file in its place, which ends in half a line."""
    rename(path)
    path.write_bytes(path.with_name("0.jsonl").read_bytes().splitlines(keepends=True)[0] + b'{"type": "exch')


def remove_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


@pytest.mark.parametrize(
    ("rotate", "survivors"),
    [
        (rename, 2),
        (create, 2),
        (copy_and_truncate, 2),
        (truncate, 1),
        (Path.unlink, 1),
        (remove_folder, 1),
    ],
)
async def test_each_file_can_be_read_alone(
    gateway: Gateway, tmp_path: Path, rotate: Callable[[Path], None], survivors: int
):
    folder = tmp_path / "records"
    rotate(await record_one(gateway, folder))
    last = await record_one(gateway, folder)
    files = sorted(folder.glob("*.jsonl"))
    found = [record for path in files for record in read_records(path)]
    assert (last in files, len(found)) == (True, survivors)
    assert [find_differences(replay(record)) for record in found] == [[]] * survivors


async def test_a_file_that_nobody_touched_introduces_a_policy_once(gateway: Gateway, tmp_path: Path):
    for _ in range(2):
        path = await record_one(gateway, tmp_path / "records")
    kinds = [json.loads(line)["type"] for line in path.read_bytes().splitlines()]
    assert kinds == ["policy", "exchange", "exchange"]


async def test_records_begin_a_line_after_half_a_line(gateway: Gateway, tmp_path: Path):
    restore(await record_one(gateway, tmp_path / "records"))
    path = await record_one(gateway, tmp_path / "records")
    _, torn, policy, exchange = path.read_bytes().splitlines()
    assert torn == b'{"type": "exch'
    assert [json.loads(line)["type"] for line in (policy, exchange)] == ["policy", "exchange"]
