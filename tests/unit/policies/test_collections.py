"""A folder of graded drafts is resumed where it stopped, and only if it is the same collection."""

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.record_builders import judged, record
from support.router_builders import worth

from policies.records.reader import GRADES_FILE, LeftOut, read_records
from policies.records.schema import PolicyLine, Record, RecordError
from policies.tuning.collection.graded_drafts import read_graded
from policies.tuning.collection.grades import OLD_GRADES_FILE, Grade, GradesWriter, read_grades
from policies.tuning.collection.manifest import (
    MANIFEST_FILE,
    Manifest,
    check_same_collection,
    hash_items,
    list_differences,
    read_manifest,
    start_collection,
)
from policies.tuning.collection.progress import measure_busy_time, read_progress
from policies.tuning.collection.sample import stratify
from policies.tuning.collection.source import find_source
from policies.tuning.starter_set import load_items
from routers.confidence.calibration import Fingerprint, LogprobSource

SOURCE = LogprobSource(model="small", engine="llamacpp", fingerprint=Fingerprint(weights="aa"))
MANIFEST = Manifest(source=SOURCE, items="00", max_tokens=64)
ITEMS = load_items()
ORDER = stratify(ITEMS)


def grade(number: int, **changes: Any) -> Grade:
    fields = {"id": f"sf-{number}", "item": f"sums-{number}", "kind": "sums", "template": "sums/1"}
    return Grade.model_validate({**fields, "split": "train", "right": number % 2 == 0, **changes})


def recorded(number: int, **changes: Any) -> Record:
    return record([judged(worth(0.7)).model_copy(update=changes)], None, id=f"sf-{number}")


def write_records(folder: Path, *records: Record, name: str = "a.jsonl") -> None:
    policy = records[0].policy
    lines = [PolicyLine(digest=policy.digest, policy=policy), *(one.exchange for one in records)]
    (folder / name).write_text("".join(f"{line.model_dump_json()}\n" for line in lines))


def write_grades(folder: Path, *grades: Grade) -> None:
    with GradesWriter(folder) as writer:
        for one in grades:
            writer.append(one)


# --- grades


@given(st.data())
def test_grades_survive_a_process_that_dies_at_any_byte(data: st.DataObject) -> None:
    grades = [grade(number) for number in range(3)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_grades(folder, *grades)
        whole = (folder / GRADES_FILE).read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        (folder / GRADES_FILE).write_bytes(whole[:cut])
        write_grades(folder, grade(9))
        left_out = LeftOut()
        complete = whole[:cut].count(b"\n") + (whole[cut : cut + 1] == b"\n")
        assert read_grades(folder, left_out) == [*grades[:complete], grade(9)]
        assert left_out.lines == (
            not whole[:cut].endswith(b"\n") and cut > 0 and whole[cut : cut + 1] != b"\n"
        )


def test_grades_of_earlier_versions_are_read(tmp_path: Path) -> None:
    (tmp_path / OLD_GRADES_FILE).write_text(json.dumps([grade(1).model_dump(), grade(2).model_dump()]))
    assert read_grades(tmp_path) == [grade(1), grade(2)]


def test_one_process_at_a_time_collects_into_a_folder(tmp_path: Path) -> None:
    with GradesWriter(tmp_path), pytest.raises(RecordError, match="another process is collecting into it"):
        GradesWriter(tmp_path)
    GradesWriter(tmp_path).__exit__(None, None, None)


def test_grades_are_no_records(tmp_path: Path) -> None:
    write_records(tmp_path, recorded(1))
    write_grades(tmp_path, grade(1))
    left_out = LeftOut()
    assert [one.exchange.id for one in read_records(tmp_path, left_out)] == ["sf-1"]
    assert left_out.lines == 0


# --- progress


def test_an_item_is_done_if_its_grade_and_its_record_are_there(tmp_path: Path) -> None:
    start_collection(tmp_path, MANIFEST)
    write_records(tmp_path, recorded(1), recorded(2), recorded(3))
    write_grades(tmp_path, grade(1), grade(2), grade(4))
    with (tmp_path / GRADES_FILE).open("a") as file:
        file.write('{"id": "sf-3", "it')
    progress = read_progress(tmp_path)
    assert list(progress.done) == ["sums-1", "sums-2"]
    assert (progress.unrecorded, progress.unreadable) == (1, 1)


def test_what_was_drafted_again_counts_once(tmp_path: Path) -> None:
    """Two processes may have raced on a file system without locks."""
    start_collection(tmp_path, MANIFEST)
    write_records(tmp_path, recorded(1), recorded(2))
    write_grades(tmp_path, grade(1), grade(2, item="sums-1"))
    assert len(read_progress(tmp_path).done) == len(read_graded(tmp_path)) == 1


def test_nothing_is_done_in_a_new_folder(tmp_path: Path) -> None:
    start_collection(tmp_path, MANIFEST)
    assert read_progress(tmp_path).done == {}
    (tmp_path / "a.jsonl").write_text('{"type": "exch')
    write_grades(tmp_path, grade(1))
    assert (read_progress(tmp_path).done, read_progress(tmp_path).unrecorded) == ({}, 1)


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [([], 0.0), ([(1, 3)], 2.0), ([(5, 6), (0, 2), (1, 3)], 4.0), ([(0, 9), (2, 3)], 9.0)],
)
def test_time_in_which_several_drafts_ran_counts_once(
    spans: list[tuple[float, float]], seconds: float
) -> None:
    assert measure_busy_time(spans) == seconds


# --- manifest


def test_the_same_collection_is_resumed(tmp_path: Path) -> None:
    start_collection(tmp_path, MANIFEST)
    check_same_collection(tmp_path, MANIFEST)
    without_files = MANIFEST.model_copy(update={"source": LogprobSource(model="small", engine="llamacpp")})
    check_same_collection(tmp_path, without_files)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_tokens": 65}, "its max_tokens is 64, and now it is 65"),
        ({"items": "01"}, "its items is 00, and now it is 01"),
        ({"source": LogprobSource(model="other", engine="llamacpp")}, "source.model is small, and now it is other"),
        (
            {"source": SOURCE.model_copy(update={"fingerprint": Fingerprint(weights="bb")})},
            "its source.fingerprint.weights is aa, and now it is bb",
        ),
    ],
)  # fmt: skip
def test_another_collection_is_refused_with_what_differs(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    start_collection(tmp_path, MANIFEST)
    assert len(list(list_differences(MANIFEST, MANIFEST.model_copy(update=changes)))) == 1
    with pytest.raises(RecordError, match=said):
        check_same_collection(tmp_path, MANIFEST.model_copy(update=changes))


def test_a_folder_without_a_manifest_or_with_a_broken_one_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"has no collection\.json"):
        check_same_collection(tmp_path, MANIFEST)
    (tmp_path / MANIFEST_FILE).write_text("{")
    with pytest.raises(RecordError, match=r"collection\.json"):
        read_manifest(tmp_path)
    with pytest.raises(RecordError, match="Not a directory"):
        read_manifest(tmp_path / MANIFEST_FILE)


def test_the_digest_of_items_does_not_depend_on_their_order() -> None:
    assert hash_items(ITEMS[:9]) == hash_items(ITEMS[8::-1]) != hash_items(ITEMS[:8])


# --- the order


def test_the_order_depends_on_the_items_alone() -> None:
    assert stratify(reversed(ITEMS)) == ORDER
    assert sorted(item.id for item in ORDER) == sorted(item.id for item in ITEMS)


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_beginning_has_all_templates_as_often(rounds: int) -> None:
    beginning = ORDER[: 120 * rounds]
    assert set(Counter(item.template for item in beginning).values()) == {rounds}
    assert Counter(item.split for item in beginning) == {"train": 96 * rounds, "held_out": 24 * rounds}


@given(st.integers(6, len(ITEMS)))
def test_kinds_and_splits_are_even_wherever_it_stops(count: int) -> None:
    beginning = ORDER[:count]
    kinds = Counter(item.kind for item in beginning).values()
    assert max(kinds) - min(kinds) <= 1
    held_out = sum(item.split == "held_out" for item in beginning)
    assert abs(held_out - count / 5) <= 12  # at most half of one round's held-out templates


# --- the source


def test_a_manifest_says_what_wrote_the_drafts(tmp_path: Path) -> None:
    start_collection(tmp_path, MANIFEST)
    assert find_source(tmp_path) == find_source(tmp_path, "org/Small", "llamacpp") == SOURCE
    with pytest.raises(RecordError, match="of the model small, not of other"):
        find_source(tmp_path, "other")
    with pytest.raises(RecordError, match="of the engine llamacpp, not of vllm"):
        find_source(tmp_path, None, "vllm")


def test_records_say_which_model_wrote_the_drafts(tmp_path: Path) -> None:
    write_records(tmp_path, recorded(1, model="Small"), recorded(2, model="other"))
    (tmp_path / OLD_GRADES_FILE).write_text(json.dumps([grade(1).model_dump()]))
    assert find_source(tmp_path, engine="vllm") == LogprobSource(model="Small", engine="vllm")
    with pytest.raises(RecordError, match="of the model Small, not of other"):
        find_source(tmp_path, "other", "vllm")
    with pytest.raises(RecordError, match="name it with --engine"):
        find_source(tmp_path)
    write_grades(tmp_path, grade(1), grade(2))
    with pytest.raises(RecordError, match="of several models: Small, other"):
        find_source(tmp_path, engine="vllm")
