"""Records that older gateways wrote are read, and replay as they did then."""

import gzip
import json
from pathlib import Path

import pytest

from policies.records.differences import find_differences
from policies.records.reader import LeftOut, read_records
from policies.records.replay import replay
from policies.records.schema import Record

OLD = sorted((Path(__file__).parent / "old_records").glob("*.jsonl.gz"))


@pytest.fixture(params=OLD, ids=lambda path: path.name)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "old.jsonl"
    path.write_bytes(gzip.decompress(request.param.read_bytes()))
    return path


def read(path: Path) -> list[Record]:
    left_out = LeftOut()
    found = list(read_records(path, left_out))
    assert str(left_out) == ""
    return found


def test_every_exchange_replays_exactly(old: Path) -> None:
    changed = {record.exchange.id: find_differences(replay(record)) for record in read(old)}
    assert {id_: found for id_, found in changed.items() if found} == {}


def test_every_value_is_read_as_it_was_written(old: Path) -> None:
    lines = [json.loads(line) for line in old.read_bytes().splitlines()]
    written = [line for line in lines if line["type"] == "exchange"]
    assert [record.exchange.model_dump(mode="json", exclude_unset=True) for record in read(old)] == written


def test_every_strategy_and_way_to_end_is_among_them(old: Path) -> None:
    records = read(old)
    answers = [record.exchange.answer for record in records]
    assert {record.policy.kind for record in records} == {
        *("direct", "difficulty", "cascade", "hedge", "speculative")
    }
    assert {answer.route for answer in answers if answer} == {"slm", "llm", "slm+llm"}
    assert {
        *(
            "policy",
            "no_llm",
            "no_slm",
            "easy",
            "too_hard",
            "confident",
            "low_confidence",
            "gave_up",
            "committed",
        ),
        *(
            "outran",
            "verified",
            "rejected_draft",
            "predicted",
            "judged",
            "guarded",
            "invalid_json",
            "affinity",
        ),
    } <= {answer.reason.value for answer in answers if answer}
    outcomes = {call.outcome for record in records for call in record.exchange.calls}
    assert {"ok", "stopped", "outrun", "cancelled", "lost", "private", "ceiling", "incapable"} <= outcomes
    assert {call.ask for record in records for call in record.exchange.calls} >= {
        *("generate", "judge", "score", "skill")
    }
    assert {record.exchange.content is not None for record in records} == {True, False}
