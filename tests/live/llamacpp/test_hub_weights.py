"""The real weights, from a hub on loopback: cut, killed, resumed, split, a full disk, and then served."""

import asyncio
import os
import shutil
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.gateway_process import free_port, until_listening
from support.loopback_hub import LoopbackHub, run_hub
from support.split_gguf import split_gguf
from support.waiting import soon, until

from gateway.local.llamacpp.hidden_states import read_output_matrix
from gateway.local.weights.package_index import DEFAULT_WEIGHTS
from policies.records.reader import GRADES_FILE
from policies.tuning.collection.graded_drafts import read_graded
from policies.tuning.collection.sample import stratify
from policies.tuning.starter_set import load_items

pytestmark = pytest.mark.heavy
ROOT = Path(__file__).resolve().parents[3]
HELD_AT = 40_000_000
ENGINE_PATIENCE = 120.0
"""Seconds for the engine's start and some drafts, on a busy machine."""
ASK = {"messages": [{"role": "user", "content": "What is the opposite of hot?"}], "max_tokens": 8}


@pytest.fixture(scope="module")
def unknown_weights(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real weights with another name in their metadata, so that no calibrator that ships knows their digest."""
    path = tmp_path_factory.mktemp("unknown") / "test.Q4_1.gguf"
    shutil.copy(weights / DEFAULT_WEIGHTS.file_name, path)
    with path.open("r+b") as file:
        at = file.read(1 << 16).index(b"general.name")
        file.seek(at + len("general.name") + 12)  # after the value's type and length
        file.write(b"T")
    return path


@pytest.fixture
def hub(unknown_weights: Path) -> Iterator[LoopbackHub]:
    with run_hub() as running:
        running.add("smollm/test-GGUF", {"test.Q4_1.gguf": unknown_weights})
        yield running


@pytest.fixture
def user(hub: LoopbackHub, tmp_path: Path) -> dict[str, str]:
    """The environment of a user with empty folders."""
    folders = {"HF_HOME": str(tmp_path / "hf"), "SMALLFIRST_MODELS_FOLDER": str(tmp_path / "models")}
    folders["XDG_DATA_HOME"] = str(tmp_path / "data")
    return os.environ | folders | {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_secret", "PYTHONPATH": str(ROOT)}


@asynccontextmanager
async def command(*words: str, environment: dict[str, str], folder: Path) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", *words),
        env=environment,
        cwd=folder,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await soon(process.communicate())


def find_partial(home: str) -> Path | None:
    """The part of the weights that has arrived, once it is as long as it gets: written in blocks of 10 MiB."""
    paths = [*Path(home).glob("hub/models--*/blobs/*.incomplete")]
    return paths[0] if paths and paths[0].stat().st_size > HELD_AT - 10 * 2**20 else None


async def answer(process: Process, port: int, model: str) -> Any:
    """Wait until the gateway listens, and ask it. The lines that it prints before are its progress."""
    assert process.stderr is not None
    while b"Try:" not in (line := await soon(process.stderr.readline(), 60)):
        assert line, "it has ended instead of listening"
    await until_listening(port)
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=ASK | {"model": model}) as response,
    ):
        return response.status, response.headers.get("x-smallfirst-route"), await response.json()


async def test_a_model_of_a_hub_is_served_at_once_and_calibrated_while_it_is_served(
    hub: LoopbackHub, user: dict[str, str], tmp_path: Path
):
    """Its download and its calibration are each killed half way, and go on."""
    hub.hold_at = HELD_AT
    words = ("serve", "--slm", "smollm/test-GGUF:Q4_1", "--port", str(port := free_port()))
    async with command(*words, environment=user, folder=tmp_path) as process:
        partial = await until(lambda: find_partial(user["HF_HOME"]))
        process.kill()
        await soon(process.communicate())
    hub.hold_at = None
    here = partial.stat().st_size
    hub.requests.clear()
    async with command(*words, environment=user, folder=tmp_path) as process:
        status, route, body = await answer(process, port, "auto")
        assert (status, route, body["model"]) == (200, "slm", "test-Q4_1")
        assert await read_calibration(port) == "uncalibrated"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in children]
        await calibrate(user, tmp_path)
        for _ in range(100):
            if await read_calibration(port) is None:
                break
        assert await read_calibration(port) is None
    assert environments
    assert all(b"hf_secret" not in each for each in environments)
    assert [download.range for download in hub.downloads()] == [f"bytes={here}-"]


async def calibrate(user: dict[str, str], folder: Path) -> None:
    """Run the command on a few items, which make no good calibrator. It is killed half way and run again."""
    items = [item for item in stratify(load_items()) if item.kind == "opposites"][:8]
    (folder / "items.jsonl").write_text("".join(f"{item.model_dump_json()}\n" for item in items))
    (folder / "one.yaml").write_text("local: {threads: 1}\n")
    words = (
        "calibrate",
        "smollm/test-GGUF:Q4_1",
        "--quick",
        "--items",
        "items.jsonl",
        "--config",
        "one.yaml",
    )

    def find_grades() -> Path | None:
        paths = [
            path for path in folder.glob(f"data/**/{GRADES_FILE}") if path.read_bytes().count(b"\n") >= 2
        ]
        return paths[0] if paths else None

    async with command(*words, environment=user, folder=folder) as process:
        grades = await until(find_grades, ENGINE_PATIENCE)
        process.kill()
        await soon(process.communicate())
    killed = {draft.grade.id: draft.grade for draft in read_graded(grades.parent)}
    async with command(*words, environment=user, folder=folder) as process:
        printed, said = await soon(process.communicate(), 2 * ENGINE_PATIENCE)
    assert process.returncode == 0, said.decode()
    assert f"{len(killed)} of {len(items)} items are done" in said.decode()
    assert "suggested accept" in printed.decode()
    drafts = read_graded(grades.parent)
    assert sorted(draft.grade.item for draft in drafts) == sorted(item.id for item in items)
    assert killed.items() <= {draft.grade.id: draft.grade for draft in drafts}.items()


async def read_calibration(port: int) -> str | None:
    """Return what an answer under `auto` says of its policy's calibration."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=ASK | {"model": "auto"}) as response,
    ):
        assert response.status == 200
        return response.headers.get("x-smallfirst-calibration")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_disk_that_is_full_is_told_and_the_download_goes_on_later(
    hub: LoopbackHub, user: dict[str, str], disk: Path, tmp_path: Path
):
    user["HF_HOME"] = str(disk / "hf")
    filler = disk / "filler"
    filler.write_bytes(bytes(120_000_000))
    pull = ("models", "pull", "smollm/test-GGUF")
    async with command(*pull, environment=user, folder=tmp_path) as process:  # known before
        _, said = await soon(process.communicate())
    assert b"98 MB are to be downloaded, and the disk of" in said
    assert process.returncode == 1
    filler.unlink()
    hub.hold_at = HELD_AT
    async with command(*pull, environment=user, folder=tmp_path) as process:  # filled by somebody meanwhile
        partial = await until(lambda: find_partial(user["HF_HOME"]))
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - 8_000_000)
        hub.released.set()
        _, said = await soon(process.communicate())
    assert b"the disk is full; free some space" in said
    assert b"Traceback" not in said
    assert process.returncode == 1
    filler.unlink()
    here = partial.stat().st_size
    hub.requests.clear()
    async with command(*pull, environment=user, folder=tmp_path) as process:
        printed, said = await soon(process.communicate())
    assert (process.returncode, printed.split()[0]) == (0, b"test-Q4_1"), said
    assert [download.range for download in hub.downloads()] == [f"bytes={here}-"]


async def test_a_split_model_is_fetched_and_served_whole(
    hub: LoopbackHub, user: dict[str, str], weights: Path, tmp_path: Path
):
    parts = split_gguf(weights / DEFAULT_WEIGHTS.file_name, tmp_path / "split", last="token_embd.weight")
    assert read_output_matrix(parts[0]).shape == (49152, 576)
    hub.add("smollm/split-GGUF", {path.name: path for path in parts})
    words = ("serve", "--slm", "smollm/split-GGUF", "--port", str(port := free_port()))
    async with command(*words, environment=user, folder=tmp_path) as process:
        status, route, body = await answer(process, port, "offline")
    assert (status, route, body["model"]) == (200, "slm", "split-Q4_1")
