"""Records survive their file, and a bad line is named."""

from pathlib import Path
from typing import Any

import pytest
from builders import token, tokens, worth
from exchanges import answered, call, judged, policy, record, tokens_line
from pydantic import ValidationError

from policies.tuning.graded import GRADES, read_graded
from policies.tuning.records import PolicyLine, Record, RecordError, TokensLine, read_records
from routers.plan import Reason

ACCEPTED = record([judged(worth(0.7))], answered("slm", Reason.CONFIDENT, 0.7), tags={"team": "a"})
BARE = record([call("llm")], answered("llm", Reason.NOT_JUDGED), judgeable=False, content={"model": "auto"})


def lines_of(*records: Record) -> str:
    """A policy line before its first exchange, as the recorder writes them."""
    seen: set[str] = set()
    lines = []
    for each in records:
        digest = each.policy.digest
        if digest not in seen:
            seen.add(digest)
            lines.append(PolicyLine(digest=digest, policy=each.policy).model_dump_json())
        lines.append(each.exchange.model_dump_json())
    return "\n".join(lines) + "\n"


def written(folder: Path, text: str, name: str = "a.jsonl") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(RecordError) as error:
        list(read_records(path))
    return str(error.value)


def test_records_survive_their_file(tmp_path: Path) -> None:
    other = record([judged(worth(0.7))], None, policy(accept=0.65))
    kept = [ACCEPTED, BARE, other]
    assert list(read_records(written(tmp_path, lines_of(*kept)))) == kept


def test_a_policy_is_known_by_the_same_digest_after_its_file(tmp_path: Path) -> None:
    (found,) = read_records(written(tmp_path, lines_of(ACCEPTED)))
    assert found.policy.digest == found.exchange.digest


def test_a_folder_is_read_in_order_of_its_files_names(tmp_path: Path) -> None:
    written(tmp_path, lines_of(BARE), "b.jsonl")
    written(tmp_path, lines_of(ACCEPTED), "a.jsonl")
    written(tmp_path, "not a record", "c.txt")
    assert list(read_records(tmp_path)) == [ACCEPTED, BARE]


def test_a_policy_line_counts_for_its_own_file_only(tmp_path: Path) -> None:
    written(tmp_path, lines_of(ACCEPTED), "a.jsonl")
    path = written(tmp_path, ACCEPTED.exchange.model_dump_json(), "b.jsonl")
    digest = ACCEPTED.policy.digest
    assert refusal(tmp_path) == f"{path}:1: no policy line with digest {digest} before this exchange"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("{", "the line: Invalid JSON"),
        ("", "the line: Invalid JSON"),
        ('{"type": "exchange"', "the line: Invalid JSON"),
        ('{"type": "poem"}', "the line: Input tag 'poem'"),
        ('{"type": "exchange"}', "exchange.id: Field required"),
        ('{"type": "policy", "digest": "0", "policy": {}}', "policy.policy.name: Field required"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, error: str) -> None:
    path = written(tmp_path, lines_of(ACCEPTED) + line + "\n")
    assert refusal(path).startswith(f"{path}:3: {error}")


def test_a_line_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines_of(ACCEPTED).encode() + b'{"type": "\xff"}\n')
    assert refusal(path).startswith(f"{path}:3: ")


def test_records_before_a_bad_line_are_read(tmp_path: Path) -> None:
    found = read_records(written(tmp_path, lines_of(ACCEPTED) + "{\n"))
    assert next(found) == ACCEPTED


# --- tokens


def test_tokens_without_content_keep_which_are_equal() -> None:
    line = TokensLine(
        ids=[0, 1, 0], logprobs=[-0.1, None, -0.3], top=[[-0.1, -2.0], [], [-0.3]], at=[0, 1, 2]
    )
    assert line.tokens() == [
        token(-0.1, "#0", [-0.1, -2.0]),
        token(None, "#1", []),
        token(-0.3, "#0", [-0.3]),
    ]


def test_tokens_with_content_keep_their_texts() -> None:
    line = tokens_line(tokens(-0.1, -0.2)).model_copy(update={"texts": ["Hel", "lo"]})
    assert [each.text for each in line.tokens()] == ["Hel", "lo"]


@pytest.mark.parametrize(
    "changes", [{"ids": [0]}, {"logprobs": []}, {"top": [[]]}, {"at": [0.0]}, {"texts": ["a"]}, {"texts": []}]
)
def test_lists_of_different_lengths_are_no_tokens(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="different lengths"):
        TokensLine.model_validate({**tokens_line(worth(0.7, 2)).model_dump(), **changes})


# --- grades

GRADE = '{"id": "sf-1", "item": "i", "kind": "k", "template": "t", "split": "train", "right": true}'


def graded_folder(folder: Path, grades: str, *records: Record) -> Path:
    written(folder, lines_of(*records))
    written(folder, grades, GRADES)
    return folder


def test_a_finished_small_draft_with_a_grade_is_learned_from(tmp_path: Path) -> None:
    draft = worth(0.3)
    escalated = record([judged(draft), call("llm")], answered("llm", Reason.LOW_CONFIDENCE, 0.3))
    (found,) = read_graded(graded_folder(tmp_path, f"[{GRADE}]", escalated))
    assert (found.grade.right, found.finish, found.seconds) == (True, "stop", 2.0)
    assert [each.logprob for each in found.tokens] == [each.logprob for each in draft]


@pytest.mark.parametrize(
    "ignored",
    [
        record([judged(worth(0.7))], None, id="sf-2"),
        BARE,
        record([call("slm")], None),
        record([call("slm", [])], None),
        record([call("slm", worth(0.1), outcome="stopped", finish=None)], None),
        record([call("llm", worth(0.7))], None),
    ],
    ids=["no grade", "not judged", "not followed", "empty", "given up", "the large model's"],
)
def test_nothing_is_learned_from_other_calls(tmp_path: Path, ignored: Record) -> None:
    assert read_graded(graded_folder(tmp_path, f"[{GRADE}]", ignored)) == []


def test_missing_grades_are_named_with_who_writes_them(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"grades\.json: No such file.*; `smallfirst collect` writes it"):
        read_graded(tmp_path)


@pytest.mark.parametrize("grades", ["[", "5", '["a"]', "[{}]", GRADE])
def test_grades_that_are_none_are_named(tmp_path: Path, grades: str) -> None:
    with pytest.raises(RecordError, match=r"grades\.json: "):
        read_graded(graded_folder(tmp_path, grades, ACCEPTED))
