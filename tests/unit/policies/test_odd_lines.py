"""Whatever stands in one line of a record set, the lines around it are read and replayed."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.record_builders import answered, call, confidence, judgement, policy, record
from support.replay_cases import held
from support.router_builders import worth

from policies.records.differences import find_differences
from policies.records.reader import LeftOut, read_records
from policies.records.replay import replay
from policies.records.schema import PolicyLine, Record, RecordError
from routers.judges.draft_judge import Verify
from routers.plan import Reason
from routers.strategies.cascade import Cascade

DRAFT = worth(0.7)
JUDGING = policy(release="hold", judge=Verify())
ESCALATED = record(
    [held(DRAFT), *[judgement(0.2)] * 2, call("llm")],
    answered("llm", Reason.JUDGED, confidence(DRAFT)),
    JUDGING,
)
POLICY = PolicyLine(digest=JUDGING.digest, policy=JUDGING).model_dump_json()
GOOD = ESCALATED.exchange.model_dump_json()
Path_ = tuple[str | int, ...]


def list_places(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Yield the path of every value in a line."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from list_places(item, (*path, key))


def put(line: str, path: Path_, odd: str) -> str:
    """Return the line with the JSON `odd` at `path`."""
    parsed = {"": json.loads(line)}
    target: Any = parsed
    *steps, last = ("", *path)
    for step in steps:
        target = target[step]
    target[last] = "ODD"
    return json.dumps(parsed[""]).replace('"ODD"', odd)


PLACES = [*list_places(json.loads(GOOD))]
ODD = [
    "5",
    "-1",
    "1e308",
    "1e400",
    "NaN",
    "-Infinity",
    "9" * 1000,
    "9" * 5000,
    "null",
    "true",
    '"5"',
    "[null]",
]
ODD += ['"\\ud800"', "[]", "{}", '{"a": 1}', "[" * 300 + "]" * 300]


def read_and_replay(path: Path) -> tuple[list[str], int]:
    """Return the ids of the records that replay as recorded, and how many lines and records did not."""
    left_out, exact = LeftOut(), []
    other = Cascade.model_validate(dict(JUDGING.router) | {"accept": 0.99, "commit": None})
    for each in read_records(path, left_out):
        try:
            exact += [] if find_differences(replay(each)) else [each.exchange.id]
            replay(each, other)
        except RecordError as error:
            left_out.add(each.exchange.id, str(error))
    assert str(left_out).isprintable()
    return exact, left_out.lines


@given(place=st.sampled_from(PLACES), odd=st.sampled_from(ODD))
def test_an_odd_value_leaves_out_its_own_line_at_most(
    tmp_path_factory: pytest.TempPathFactory, place: Path_, odd: str
) -> None:
    path = tmp_path_factory.mktemp("records") / "a.jsonl"
    path.write_text("\n".join([POLICY, GOOD, put(GOOD, place, odd), GOOD, ""]))
    exact, left_out = read_and_replay(path)
    assert exact.count(ESCALATED.exchange.id) >= 2
    assert left_out <= 2


@given(st.binary(max_size=40), st.integers(0, 200))
def test_torn_bytes_leave_out_their_own_lines_at_most(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, cut: int
) -> None:
    path = tmp_path_factory.mktemp("records") / "a.jsonl"
    good = GOOD.encode()
    path.write_bytes(b"\n".join([POLICY.encode(), good, noise + good[cut:], good, good[:cut] + b"\x00" * 99]))
    assert read_and_replay(path)[0].count(ESCALATED.exchange.id) >= 2


def test_a_record_that_makes_no_sense_to_its_plan_is_a_record_error() -> None:
    draft, judge, *rest = ESCALATED.exchange.calls
    assert judge.judged is not None
    odd = judge.model_copy(update={"judged": judge.judged.model_copy(update={"p": {"maybe": 1.0}})})
    exchange = ESCALATED.exchange.model_copy(update={"calls": [draft, odd, *rest]})
    with pytest.raises(RecordError, match=f"exchange {exchange.id} cannot be replayed: KeyError"):
        replay(Record(exchange=exchange, policy=JUDGING))


@pytest.mark.parametrize("count", ["9" * 1000, "1e308", "-1", "9007199254740992"])
def test_a_count_that_is_none_is_named(tmp_path: Path, count: str) -> None:
    path = tmp_path / "a.jsonl"
    place = ("calls", 0, "usage", "prompt_tokens")
    path.write_text("\n".join([POLICY, GOOD, put(GOOD, place, count)]))
    left_out = LeftOut()
    assert len(list(read_records(path, left_out))) == 1
    assert left_out.reasons[0].startswith(f"{path}:3: exchange.calls.0.usage.prompt_tokens: ")


def test_deeply_nested_content_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    deep = "[" * 240 + "]" * 240
    path.write_text("\n".join([POLICY, put(GOOD, ("content",), f'{{"metadata": {deep}}}')]))
    (found,) = read_records(path)
    assert found.exchange.content == {"metadata": json.loads(deep)}


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").write_text(f"{POLICY}\n{GOOD}\n")
    left_out = LeftOut()
    assert len(list(read_records(tmp_path, left_out))) == 1
    assert left_out.reasons == [f"{tmp_path / 'a.jsonl'}: cannot be read: it is no regular file"]
