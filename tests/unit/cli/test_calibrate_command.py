"""`smallfirst collect` and `smallfirst calibrate`: what they leave on disk, and how they go on if interrupted."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from support.gateways import settings_of, upstream
from support.scripted_server import Reply, scripted
from support.student import Student
from threadpoolctl import threadpool_limits
from typer.testing import CliRunner

import policies.tuning.report
from gateway.catalog.calibrators import Calibrators
from gateway.cli import app
from gateway.cli.records.calibrate import calibrate_if_needed
from gateway.cli.records.calibration import MAX_TOKENS
from gateway.cli.records.collect import collect_drafts
from gateway.cli.records.drafting import Collection, CollectionFailed, find_source
from gateway.cli.records.worth import describe_worth
from gateway.settings import Settings
from policies.loading.yaml_files import ConfigError
from policies.records.reader import GRADES_FILE
from policies.records.schema import RecordError
from policies.tuning.collection.graded_drafts import read_graded
from policies.tuning.collection.progress import CollectionProgress
from policies.tuning.collection.sample import stratify
from policies.tuning.report import HeldOut
from policies.tuning.starter_set import Item, load_items
from routers.confidence.calibration import Calibrator

ITEMS = stratify(load_items())[:120:2]


def knows(item: Item) -> bool:
    return len(item.prompt) % 3 > 0


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(policies.tuning.report, "RESAMPLES", 20)
    with threadpool_limits(1):
        yield


@pytest.fixture
async def student() -> AsyncIterator[Student]:
    async with scripted("small", Student) as server:
        server.learn(ITEMS, knows)
        yield server


def student_settings(student: Student) -> Settings:
    return settings_of(upstream(student, "slm"))


async def collect(student: Student, folder: Path, items: list[Item], **changes: Any) -> dict[str, bool]:
    """Collect, and return which items are right."""
    grades = await collect_drafts(student_settings(student), folder, items, 64, **changes)
    return {grade.item: grade.right for grade in grades}


async def test_each_item_leaves_a_record_and_a_grade(student: Student, tmp_path: Path) -> None:
    folder = tmp_path / "drafts"
    grades = await collect(student, folder, ITEMS[:12])
    assert grades == {item.id: knows(item) for item in ITEMS[:12]}
    assert {draft.grade.item: draft.grade.right for draft in read_graded(folder)} == grades
    with pytest.raises(ConfigError, match=r"is not empty.*--resume goes on"):
        await collect(student, folder, ITEMS[:12])
    with pytest.raises(RecordError, match="its max_tokens is 64, and now it is 65"):
        await collect_drafts(student_settings(student), folder, ITEMS[:12], 65, resume=True)


def test_a_collection_that_died_at_any_place_ends_as_if_it_had_not(tmp_path: Path) -> None:
    """The process may have died at any byte of either file: each is cut, and the collection is resumed."""
    items = ITEMS[:8]

    async def run(cuts: tuple[float, float] | None, folder: Path) -> tuple[dict[str, bool], int]:
        async with scripted("small", Student) as student:
            student.learn(items, knows)
            if cuts is None:
                return await collect(student, folder, items), len(student.requests)
            return await collect(student, folder, items, resume=True), len(student.requests)

    whole, _ = asyncio.run(run(None, tmp_path / "whole"))
    files = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}

    @given(st.tuples(st.floats(0, 1), st.floats(0, 1)))
    @examples(max_examples=4)
    def resume(cuts: tuple[float, float]) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file, content in files.items():
                share = {GRADES_FILE: cuts[0], "collection.json": 1.0}.get(file, cuts[1])
                (folder / file).write_bytes(content[: round(share * len(content))])
            before = len(read_graded(folder)) if cuts[1] > 0.2 else 0
            grades, asked = asyncio.run(run(cuts, folder))
            assert list(grades.items()) == list(whole.items())
            assert asked <= len(items) - before
            assert {draft.grade.item: draft.grade.right for draft in read_graded(folder)} == whole
            assert len(read_graded(folder)) == len(items)

    resume()


async def test_an_item_that_the_model_refuses_is_left_out_and_named(
    student: Student, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student.overrides[ITEMS[1].id] = Reply(status=400)
    grades = await collect(student, tmp_path / "drafts", ITEMS[:4])
    assert list(grades) == [ITEMS[0].id, ITEMS[2].id, ITEMS[3].id]
    assert f"the model refused 1 items, such as {ITEMS[1].id}" in " ".join(capsys.readouterr().err.split())


async def test_what_was_collected_stays_if_the_model_stops_answering(
    student: Student, tmp_path: Path
) -> None:
    student.overrides[ITEMS[8].id] = Reply(status=500)
    with pytest.raises(CollectionFailed, match="does not answer"):
        await collect(student, tmp_path / "drafts", ITEMS[:12])
    done = len(read_graded(tmp_path / "drafts"))
    assert 4 <= done < 12
    student.overrides.clear()
    student.forget()
    grades = await collect(student, tmp_path / "drafts", ITEMS[:12], resume=True)
    assert grades == {item.id: knows(item) for item in ITEMS[:12]}
    assert len(student.requests) == 12 - done


async def test_no_draft_begins_once_the_time_is_up(student: Student, tmp_path: Path) -> None:
    collection = Collection(student_settings(student), tmp_path / "drafts", ITEMS, 64)
    progress = collection.open(resume=True)
    assert await collection.draft(ITEMS, progress, lambda grade: None, seconds=0.0) == []
    assert len(await collection.draft(ITEMS, progress, lambda grade: None, seconds=1e-9)) == 0
    assert student.requests == []


def test_a_small_model_must_be_configured(tmp_path: Path) -> None:
    far = {"name": "far", "tier": "llm", "url": "http://127.0.0.1:9/v1", "model": "large"}
    with pytest.raises(ConfigError, match="no small model is configured"):
        find_source(settings_of(far))
    assert CollectionProgress({}).done == {}


# --- calibrate


async def run(*arguments: object) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, [str(one) for one in arguments])


@pytest.fixture
def files(student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The settings file and the items' file; a data folder of its own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    config, items = tmp_path / "smallfirst.yaml", tmp_path / "items.jsonl"
    config.write_text(json.dumps({"local": None, "upstreams": [upstream(student, "slm")]}))
    items.write_text("".join(f"{item.model_dump_json()}\n" for item in ITEMS))
    return config, items


async def test_a_model_that_is_always_right_gets_the_generic_rule_at_its_base_rate(
    student: Student, files: tuple[Path, Path]
) -> None:
    """Nothing tells its right drafts from wrong ones, so nothing can be learned but how many are right."""
    student.learn(ITEMS)
    config, items = files
    result = await run("calibrate", "--config", config, "--items", items, "--quick")
    assert result.exit_code == 0, result.output
    assert "60 drafts, 100.0% right" in result.stdout
    path = Calibrators().path_for(find_source(student_settings(student)))
    assert f"calibrator: {path}" in result.stdout
    calibrator = Calibrator.model_validate_json(path.read_bytes())
    assert (calibrator.made_for.model, calibrator.made_for.engine) == ("small", "openai")
    folder = path.parents[1] / "calibrations" / path.stem
    drafts = read_graded(folder)
    train = [draft for draft in drafts if draft.grade.split == "train"]
    mean = np.mean([calibrator.confidence(draft.signals, finished=True) for draft in train])
    assert mean == pytest.approx((len(train) + 1) / (len(train) + 2), abs=1e-4)
    assert {request["max_tokens"] for request in student.requests} == {MAX_TOKENS}
    student.forget()
    again = await run("calibrate", "--config", config, "--items", items)
    assert (again.exit_code, student.requests) == (0, [])
    assert "60 of 60 items are done" in again.stderr


async def test_serve_calibrates_no_model_that_has_its_calibrator(
    student: Student, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = student_settings(student)
    path = Calibrators().path_for(find_source(settings))
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    calibrate_if_needed(settings, quick=True)
    assert f"calibrated already: {path}" in capsys.readouterr().err.replace("\n", "")
    assert student.requests == []


async def test_other_items_are_another_calibration(files: tuple[Path, Path], student: Student) -> None:
    config, items = files
    path = Calibrators().path_for(find_source(student_settings(student)))
    other = Collection(
        student_settings(student), path.parents[1] / "calibrations" / path.stem, ITEMS[:3], MAX_TOKENS
    )
    other.open(resume=True)
    result = await run("calibrate", "--config", config, "--items", items)
    assert result.exit_code == 2
    assert "holds another collection: its items is " in result.stderr
    assert "remove that folder to begin anew" in result.stderr


# --- what it is worth


def held_out(confidence: list[float], right: list[int], unseen: list[float] | None = None) -> HeldOut:
    kinds = np.array(["sums"] * len(right))
    own = np.array(confidence)
    return HeldOut(kinds, np.array(right, float), own, None if unseen is None else np.array(unseen), 0.5)


def test_the_suggested_threshold_is_the_smallest_that_is_right_often_enough() -> None:
    confidence = [0.2] * 20 + [0.5] * 20 + [0.8] * 40
    right = [0] * 20 + [1] * 10 + [0] * 10 + [1] * 40
    lines = list(describe_worth(held_out([0.0] * 80, right, confidence), 0.9))
    assert lines[-2].startswith("suggested accept: 0.51, ")
    assert lines[-1] == "  40 of 80 accepted, 40 of these right (100%, 95 % interval 91% to 100%)"
    assert (
        "  0.60  40 of 80 accepted, 40 of these right (100%, 95 % interval 91% to 100%) (auto, private)"
        in lines
    )
    assert "  0.85  0 of 80 accepted (careful)" in lines


def test_none_is_suggested_if_none_is_right_often_enough() -> None:
    right = [0, 1] * 20
    lines = list(describe_worth(held_out([0.5 + at / 100 for at in range(40)], right), 0.9))
    assert "suggested accept: none. No threshold that accepts 20 drafts has 90% of them right." in lines
    assert lines[-1].startswith("  the best is 0.")
    assert list(describe_worth(held_out([0.5] * 4, [0, 1] * 2), 0.9))[-1].startswith(
        "suggested accept: none."
    )
