"""Records survive their file, and a bad line is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.record_builders import PRICE, PROMPT, answered, call, judged, policy, record, tokens_line
from support.router_builders import token, tokens, worth

from gateway.exchange.call import Call
from gateway.exchange.exchange import Exchange
from gateway.telemetry.account_values import encode_compact
from gateway.telemetry.record_lines import build_exchange_line
from gateway.telemetry.record_writer import Recorder
from gateway.telemetry.settings import RecordSettings
from policies.records.reader import LeftOut, read_records
from policies.records.schema import JudgedLine, PolicyLine, Record, RecordError, RequestLine, TokensLine
from policies.tuning.collection.graded_drafts import read_graded
from policies.tuning.collection.grades import OLD_GRADES_FILE
from routers.confidence.answer_words import SENTENCE_END, SHAPES, WORD_PART, build_stand_in, token_shape
from routers.plan import Generate, Judge, Judged, Reason, Tier, Token, Verdict
from routers.router import Request
from routers.watch import ObservingWatch

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


def read(path: Path) -> tuple[list[Record], list[str]]:
    """The records, and why lines were left out."""
    left_out = LeftOut()
    found = list(read_records(path, left_out))
    assert left_out.lines == len(left_out.reasons)
    return found, left_out.reasons


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
    reason = f"{path}:1: no policy line with digest {ACCEPTED.policy.digest} before this exchange"
    assert read(tmp_path) == ([ACCEPTED], [reason])
    assert refusal(path) == reason


BAD_LINES = [
    (b"{", "the line: Invalid JSON"),
    (b"", "the line: Invalid JSON"),
    (b'{"type": "exchange"', "the line: Invalid JSON"),
    (b"\x00\x1b[2J\xff\xfe", "the line: Invalid JSON"),
    (b'{"type": "\xff"}', "the line: Invalid JSON"),
    (b"[" * 10_000, "the line: Invalid JSON"),
    (b"5", "the line: Input should be"),
    (b'{"type": "poem"}', "the line: Input tag 'poem'"),
    (b'{"type": "exchange"}', "exchange.id: Field required"),
    (b'{"type": "policy", "digest": "0", "policy": {}}', "policy.policy.name: Field required"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES)
def test_a_bad_line_is_named_and_the_rest_is_read(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    policy, exchange = lines_of(ACCEPTED).encode().splitlines()
    path.write_bytes(b"\n".join([policy, exchange, line, exchange, b""]))
    found, (why,) = read(tmp_path)
    assert found == [ACCEPTED, ACCEPTED]
    assert why.startswith(f"{path}:3: {reason}")
    assert why.isprintable()


@pytest.mark.parametrize(("line", "reason"), BAD_LINES)
def test_where_nothing_can_be_read_the_first_line_is_the_error(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(line + b"\n")
    assert refusal(tmp_path).startswith(f"{path}:1: {reason}")
    path.write_bytes(line + b"\n" + line + b"\n")
    assert refusal(tmp_path).endswith("; and 1 more")


def test_a_file_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").mkdir()
    written(tmp_path, lines_of(ACCEPTED), "b.jsonl")
    reason = f"{tmp_path / 'a.jsonl'}: cannot be read: Is a directory"
    assert read(tmp_path) == ([ACCEPTED], [reason])
    (tmp_path / "b.jsonl").unlink()
    assert refusal(tmp_path) == reason


def test_where_there_are_no_lines_nothing_is_wrong(tmp_path: Path) -> None:
    assert read(tmp_path) == ([], [])
    written(tmp_path, lines_of(ACCEPTED).splitlines()[0])
    assert read(tmp_path) == ([], [])


def test_many_bad_lines_are_counted_and_the_first_named(tmp_path: Path) -> None:
    path = written(tmp_path, "{\n" * 5 + lines_of(ACCEPTED))
    left_out = LeftOut()
    assert list(read_records(path, left_out)) == [ACCEPTED]
    text = str(left_out)
    assert text.startswith(f"5 lines of records left out: {path}:1: ")
    assert (f"{path}:3: " in text, f"{path}:4: " in text, text.endswith("; and 2 more")) == (
        True,
        False,
        True,
    )


def test_records_before_a_bad_line_are_read(tmp_path: Path) -> None:
    found = read_records(written(tmp_path, lines_of(ACCEPTED) + "{\n"))
    assert next(found) == ACCEPTED


# --- formats


def changed(record: Record, **more: Any) -> Any:
    """Its policy line and its exchange line, as plain values."""
    policy, exchange = (json.loads(line) | more for line in lines_of(record).splitlines())
    return policy, exchange


def write_lines(path: Path, *lines: Any) -> Path:
    return written(path, "".join(json.dumps(line) + "\n" for line in lines))


def test_every_line_names_its_format(tmp_path: Path) -> None:
    recorded(tmp_path, False)
    (path,) = tmp_path.iterdir()
    assert [json.loads(line)["format"] for line in path.read_bytes().splitlines()] == [1, 1]


def test_lines_without_a_format_are_of_format_1(tmp_path: Path) -> None:
    lines = changed(ACCEPTED)
    for line in lines:
        del line["format"]
    write_lines(tmp_path, *lines)
    assert read(tmp_path) == ([ACCEPTED], [])


@pytest.mark.parametrize("format_", [1, "1", "1.0", "1.1", "1.10"])
def test_a_format_that_adds_nothing_is_read(tmp_path: Path, format_: int | str) -> None:
    write_lines(tmp_path, *changed(ACCEPTED, format=format_))
    (found,), reasons = read(tmp_path)
    assert (found.exchange.format, reasons) == (format_, [])
    assert found.exchange.model_copy(update={"format": 1}) == ACCEPTED.exchange


def with_unknown_keys(format_: int | str) -> tuple[Any, Any]:
    """In all places that differ: at the top, in a member of a union, in a list, beside a key like a tag."""
    policy, exchange = changed(ACCEPTED, format=format_, mood={"deep": [1]})
    policy["policy"]["exchange"] = policy["policy"]["router"]["mood"] = 1
    policy["policy"]["private"] = {"action": "redact", "mood": 1}
    exchange["request"]["mood"] = exchange["calls"][0]["mood"] = exchange["calls"][0]["tokens"]["mood"] = 1
    return policy, exchange


def test_unknown_keys_of_a_newer_minor_format_are_ignored_and_named(tmp_path: Path) -> None:
    policy, exchange = with_unknown_keys("1.2")
    write_lines(tmp_path, policy, exchange, exchange)
    left_out = LeftOut()
    found = list(read_records(tmp_path, left_out))
    assert [each.exchange.calls for each in found] == [ACCEPTED.exchange.calls] * 2
    assert found[0].policy.router == ACCEPTED.policy.router
    assert left_out.reasons == []
    assert left_out.keys == {
        "policy.mood": 1,
        "policy.policy.exchange": 1,
        "policy.policy.private.section.mood": 1,
        "policy.policy.router.cascade.mood": 1,
        "exchange.mood": 2,
        "exchange.request.mood": 2,
        "exchange.calls.mood": 2,
        "exchange.calls.tokens.mood": 2,
    }
    assert str(left_out) == (
        "keys of a newer format ignored: exchange.calls.mood (2 lines), exchange.calls.tokens.mood (2 lines), "
        "exchange.mood (2 lines), and 5 more"
    )


@pytest.mark.parametrize("format_", [1, "1.0"])
def test_unknown_keys_of_this_format_make_a_line_unreadable(tmp_path: Path, format_: int | str) -> None:
    policy, exchange = changed(ACCEPTED)
    path = write_lines(tmp_path, policy, exchange, exchange | {"format": format_, "mood": 1})
    found, reasons = read(tmp_path)
    assert found == [ACCEPTED]
    assert reasons == [f"{path}:3: exchange.mood: Extra inputs are not permitted"]


@pytest.mark.parametrize("more", [{"type": "poem"}, {"status": "fine"}, {"endpoint": None, "mood": 1}])
def test_what_is_more_than_a_key_is_unreadable_in_any_format(tmp_path: Path, more: dict[str, Any]) -> None:
    policy, exchange = changed(ACCEPTED)
    path = write_lines(tmp_path, policy, exchange, exchange | {"format": "1.2"} | more)
    left_out = LeftOut()
    assert list(read_records(tmp_path, left_out)) == [ACCEPTED]
    (reason,) = left_out.reasons
    assert (reason.startswith(f"{path}:3: "), left_out.keys) == (True, {})


@pytest.mark.parametrize("more", [{}, {"mood": 1}, {"type": "poem"}, {"calls": 5}])
@pytest.mark.parametrize("format_", [2, "2", "2.0", "10.3"])
def test_another_major_format_is_left_out_with_its_number(
    tmp_path: Path, format_: int | str, more: dict[str, Any]
) -> None:
    policy, exchange = changed(ACCEPTED)
    path = write_lines(tmp_path, policy, exchange, exchange | {"format": format_} | more)
    found, reasons = read(tmp_path)
    major = str(format_).partition(".")[0]
    assert found == [ACCEPTED]
    assert reasons == [f"{path}:3: it is of format {major}, this version of smallfirst reads format 1"]


@pytest.mark.parametrize(
    "format_", [0, -1, 1.2, True, None, "", "1.", ".1", "v1", "1.2.3", "one", [1], "1\n"]
)
def test_what_is_no_format_is_named(tmp_path: Path, format_: Any) -> None:
    policy, exchange = changed(ACCEPTED)
    path = write_lines(tmp_path, policy, exchange, exchange | {"format": format_})
    found, reasons = read(tmp_path)
    assert found == [ACCEPTED]
    assert reasons == [f'{path}:3: expected a format such as 1 or "1.2", found {format_!r}']


# --- tokens


def test_tokens_without_content_keep_which_are_equal_and_where_words_begin() -> None:
    line = TokensLine(
        ids=[0, 1, 0, 2],
        shapes="w w.",
        logprobs=[-0.1, None, -0.3, -0.2],
        top=[[-0.1, -2.0], [], [-0.3], []],
        at=[0, 1, 2, 3],
    )
    assert line.to_tokens() == [
        token(-0.1, "0", [-0.1, -2.0]),
        token(None, " 1", []),
        token(-0.3, "0", [-0.3]),
        token(-0.2, ".2", []),
    ]


def test_tokens_with_content_keep_their_texts() -> None:
    line = tokens_line(tokens(-0.1, -0.2)).model_copy(update={"texts": ["Hel", "lo"]})
    assert [each.text for each in line.to_tokens()] == ["Hel", "lo"]


def test_tokens_keep_their_marks() -> None:
    plain, thought, last = tokens(-0.1, -0.2, -0.3)
    draft = [thought._replace(reasoning=True), plain, last._replace(text="end.")]
    line = TokensLine.model_validate_json(tokens_line(draft).model_dump_json())
    assert (line.reasoning, line.shapes) == ([0], "ww.")
    assert [(each.reasoning, token_shape(each.text)) for each in line.to_tokens()] == [
        (True, WORD_PART),
        (False, WORD_PART),
        (False, SENTENCE_END),
    ]


@given(st.lists(st.tuples(st.floats(-20, 0) | st.none(), st.booleans(), st.sampled_from(SHAPES))))
def test_tokens_survive_their_line_but_for_their_texts(
    written: list[tuple[float | None, bool, str]],
) -> None:
    draft = [
        Token(build_stand_in(kind, place), logprob, [] if logprob is None else [logprob, -21.0], reasoning)
        for place, (logprob, reasoning, kind) in enumerate(written)
    ]
    assert TokensLine.model_validate_json(tokens_line(draft).model_dump_json()).to_tokens() == draft


# --- the request


@pytest.mark.parametrize(
    "request_",
    [
        Request(),
        Request(stream=True, judgeable=False, whole=True, stays=3),
        Request(tiers=frozenset(("slm",)), able=frozenset(("llm",))),
        Request(tiers=frozenset(), able=frozenset(), features={"turns": 3.0, "code": 0.0}),
    ],
)
def test_what_a_router_knew_of_the_request_survives_its_line(request_: Request) -> None:
    line = RequestLine(
        stream=request_.stream,
        judgeable=request_.judgeable,
        whole=request_.whole,
        tiers=sorted(request_.tiers),
        able=sorted(request_.able),
        stays=request_.stays,
        features=dict(request_.features),
    )
    assert RequestLine.model_validate_json(line.model_dump_json()).to_request() == request_


def test_a_line_of_before_there_was_more_to_know_says_the_least() -> None:
    line = RequestLine.model_validate({"stream": False, "judgeable": True, "tiers": ["slm", "llm"]})
    assert line.to_request() == Request()


# --- what the gateway writes

DRAFT = [
    Token("<think>", -0.1, (-0.1, -3.0), reasoning=True),
    Token("Yes", -0.2, (-0.2, -2.0)),
    Token(".", None, ()),
]


def exchange() -> Exchange:
    """A race, and a judgement of its draft, as the engine leaves them."""

    def made(tier: Tier, ask: Generate | Judge, **changes: Any) -> Call:
        fields = {
            "upstream": tier,
            "model": tier,
            "price": PRICE[tier],
            "started": 0.25,
            "prompt_tokens": PROMPT,
        }
        return Call(ask=ask, tier=tier, **{**fields, **changes})

    calls = [
        made(
            "slm",
            Generate("slm", ObservingWatch),
            finish="stop",
            tokens=list(DRAFT),
            at=[0.1, 0.2, 0.30000049],
            flaw=Reason.INVALID_JSON,
            verdict=Verdict.GIVE_UP,
            reason=Reason.INVALID_JSON,
            sent=0.26,
            ended=0.31,
        ),
        made("llm", Generate("llm", because=Reason.OUTRAN), outcome="outrun", first=0.3, begun=True),
        made("slm", Judge("slm", "?", ("yes", "no")), judged=Judged({"yes": 0.75, "no": 0.25}, 0.5)),
        made("llm", Generate("llm", prefix="Yes."), finish="stop"),
    ]
    request = Request(
        stream=True, whole=True, tiers=frozenset(("slm",)), able=frozenset(("llm",)), features={"turns": 2.0}
    )
    body = {"model": "test"}
    return Exchange("chat", "chat", policy(), body, b"", request, None, calls=calls, tags={"team": "a"})


def recorded(folder: Path, content: bool) -> Record:
    left = exchange()
    line = build_exchange_line(left)
    recorder = Recorder(RecordSettings(content=content), folder, lambda: pytest.fail("dropped"))
    recorder.add(left, line, encode_compact(line))
    recorder.close()
    (found,) = read_records(folder)
    return found


@pytest.mark.parametrize("content", [False, True])
def test_what_the_gateway_writes_is_read_back(tmp_path: Path, content: bool) -> None:
    left, found = exchange(), recorded(tmp_path, content)
    assert found.policy == left.policy
    assert found.exchange.request.to_request() == left.request
    slm, llm, judge, spliced = found.exchange.calls
    assert [line.ask for line in found.exchange.calls] == ["generate", "generate", "judge", "generate"]
    assert (slm.flaw, slm.sent, slm.ended, slm.resumed) == (Reason.INVALID_JSON, 0.26, 0.31, False)
    assert (llm.outcome, llm.because, llm.first, llm.begun) == ("outrun", Reason.OUTRAN, 0.3, True)
    assert judge.judged == JudgedLine(p={"yes": 0.75, "no": 0.25}, mass=0.5)
    assert spliced.resumed
    assert [line.tokens for line in (llm, judge, spliced)] == [None, None, None]
    assert slm.tokens is not None
    assert slm.tokens.at == [0.1, 0.2, 0.3]
    texts = ["<think>", "Yes", "."] if content else ["#0", "1", ".2"]
    assert slm.tokens.to_tokens() == [
        each._replace(text=text, top=list(each.top)) for text, each in zip(texts, DRAFT, strict=True)
    ]
    assert found.exchange.content == ({"model": "test"} if content else None)


@pytest.mark.parametrize(
    "changes",
    [
        {"ids": [0]},
        {"shapes": "w"},
        {"logprobs": []},
        {"top": [[]]},
        {"at": [0.0]},
        {"texts": ["a"]},
        {"texts": []},
    ],
)
def test_lists_of_different_lengths_are_no_tokens(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="different lengths"):
        TokensLine.model_validate({**tokens_line(worth(0.7, 2)).model_dump(), **changes})


# --- grades

GRADE = '{"id": "sf-1", "item": "i", "kind": "k", "template": "t", "split": "train", "right": true}'


def graded_folder(folder: Path, grades: str, *records: Record) -> Path:
    written(folder, lines_of(*records))
    written(folder, grades, OLD_GRADES_FILE)
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
        record([call("slm", [each._replace(reasoning=True) for each in worth(0.7)])], None),
        record([call("slm", worth(0.1), outcome="stopped", finish=None)], None),
        record([call("llm", worth(0.7))], None),
    ],
    ids=["no grade", "not judged", "not followed", "empty", "only thought", "given up", "the large model's"],
)
def test_nothing_is_learned_from_other_calls(tmp_path: Path, ignored: Record) -> None:
    assert read_graded(graded_folder(tmp_path, f"[{GRADE}]", ignored)) == []


def test_missing_grades_are_named_with_who_writes_them(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"grades\.jsonl: No such file.*; `smallfirst collect` writes it"):
        read_graded(tmp_path)


@pytest.mark.parametrize("grades", ["[", "5", '["a"]', "[{}]", GRADE])
def test_grades_that_are_none_are_named(tmp_path: Path, grades: str) -> None:
    with pytest.raises(RecordError, match=r"grades\.json: "):
        read_graded(graded_folder(tmp_path, grades, ACCEPTED))
