"""`smallfirst calibrate` as a process of its own, with the real small model: killed, interrupted, and resumed."""

import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.waiting import until

from gateway.catalog.calibrators import Calibrators
from gateway.cli.records.drafting import find_source
from gateway.settings import load_settings
from policies.records.reader import GRADES_FILE
from policies.tuning.collection.sample import stratify
from policies.tuning.graded_drafts import read_graded
from policies.tuning.starter_set import load_items
from routers.confidence.calibration import Calibrator

pytestmark = [pytest.mark.engine, pytest.mark.heavy]

ENGINE_PATIENCE = 120.0
"""Seconds for the engine's start and some drafts, on a busy machine."""
KINDS = ("opposites", "yes_no")  # their drafts are short
ITEMS = [item for item in stratify(load_items()) if item.kind in KINDS][:24]


@pytest.fixture
def config(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("SMALLFIRST_MODELS_FOLDER", str(weights))
    path = tmp_path / "smallfirst.yaml"
    path.write_text(json.dumps({"local": {"threads": 1, "slots": 2}}))
    (tmp_path / "items.jsonl").write_text("".join(f"{item.model_dump_json()}\n" for item in ITEMS))
    return path


@asynccontextmanager
async def calibrating(config: Path, *options: str) -> AsyncIterator[Process]:
    """The command as a process, which is killed if a test has not ended it."""
    process = await create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "calibrate", "--config", str(config), *options),
        *("--items", str(config.with_name("items.jsonl"))),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_a_calibration_that_is_killed_and_interrupted_goes_on(config: Path) -> None:
    path = Calibrators().path_for(find_source(load_settings(config)))
    folder = path.parents[1] / "calibrations" / path.stem

    def count_grades() -> int:
        grades = folder / GRADES_FILE
        return grades.read_bytes().count(b"\n") if grades.exists() else 0

    async with calibrating(config, "--quick") as process:
        await until(lambda: count_grades() >= 6, ENGINE_PATIENCE)
    killed = {draft.grade.id: draft.grade for draft in read_graded(folder)}

    async with calibrating(config, "--quick") as process:
        await until(lambda: count_grades() >= 12, ENGINE_PATIENCE)
        process.send_signal(signal.SIGINT)
        _, said = await process.communicate()
    assert process.returncode == 130, said.decode()
    assert f"{len(killed)} of {len(ITEMS)} items are done" in said.decode()
    assert "the same command goes on where it stopped" in said.decode()
    interrupted = {draft.grade.id: draft.grade for draft in read_graded(folder)}
    assert killed.items() <= interrupted.items()
    assert len(killed) < len(interrupted) < len(ITEMS)
    assert not path.exists()

    async with calibrating(config, "--quick") as process:
        printed, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert "grades that cannot be read" not in said.decode()
    drafts = read_graded(folder)
    assert sorted(draft.grade.item for draft in drafts) == sorted(item.id for item in ITEMS)
    assert interrupted.items() <= {draft.grade.id: draft.grade for draft in drafts}.items()
    assert Calibrator.model_validate_json(path.read_bytes()).made_for == find_source(load_settings(config))
    assert "suggested accept" in printed.decode()
