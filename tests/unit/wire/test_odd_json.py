"""JSON as it comes: what Python's encoder and others write is read, and written again as JSON."""

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.odd_answers import ODD_VALUES, TEXTS, write_odd_json

from gateway.api.request_body import parse_request
from gateway.errors import ApiError
from gateway.wire.parsing.answers import may_need_mending, read_answer
from gateway.wire.parsing.nesting import read_json
from gateway.wire.parsing.odd_json import repair_answer, repair_surrogates


def to_expected(value: Any) -> Any:
    """What a value comes to: no lone half of a surrogate pair, no number that is not finite."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, float) and not math.isfinite(value):
        return -9999.0 if value == -math.inf else None
    if isinstance(value, list):
        return [to_expected(inner) for inner in value]
    if isinstance(value, dict):
        return {to_expected(key): to_expected(inner) for key, inner in value.items()}
    return value


def is_finite(value: Any) -> bool:
    if isinstance(value, dict | list):
        return all(map(is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


@given(st.dictionaries(TEXTS, ODD_VALUES, max_size=4))
@example({"a": float("-inf"), "b": "-Infinity", "c": [float("nan")]})
@example({'"': "\\", "\\u": "\\ud83d", "b": '\\"\ud83d\\'})
@example({"a": 2**64, "b": -(2**63) - 1, "c": 2**64 - 1})
@example({"a": "\ude00\ud83d"})
def test_an_answer_is_read_and_written_whatever_its_texts_and_numbers(value: dict[str, Any]):
    raw = write_odd_json(value)
    found, text = read_answer(raw)
    for written in (orjson.dumps(found), text):
        assert json.loads(written, parse_constant=pytest.fail) == to_expected(value)
    assert (text is raw) == (raw == text)


@given(st.dictionaries(TEXTS, ODD_VALUES, max_size=4))
@example({"a": "\ud83d", "b": 2**64})
def test_a_request_is_the_same_but_must_be_finite(value: dict[str, Any]):
    raw = write_odd_json(value)
    if not is_finite(value):
        with pytest.raises(ApiError) as refused:
            parse_request(raw)
        assert (refused.value.status, refused.value.code) == (400, "invalid_json")
        return
    found, text = parse_request(raw)
    for written in (orjson.dumps(found), text):
        assert json.loads(written) == to_expected(value)


@given(TEXTS)
def test_the_texts_of_a_stream_are_never_doubled(text: str):
    """Cut between the halves of a pair, each half is one replacement; in one text they are joined."""
    halves = [half for letter in text for half in _to_halves(letter)]
    found = "".join(read_answer(write_odd_json({"a": half}))[0]["a"] for half in halves)
    assert found == "".join("\ufffd" if "\ud800" <= half <= "\udfff" else half for half in halves)
    assert read_answer(write_odd_json({"a": text}))[0]["a"] == to_expected(text)


def _to_halves(letter: str) -> list[str]:
    units = letter.encode("utf-16-le", "surrogatepass")
    return [units[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(units), 2)]


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'{"a": -Infinity, "b": Infinity, "c": NaN}', {"a": -9999.0, "b": None, "c": None}),
        (b'{"a": -inf, "b": inf, "c": nan, "d": -nan}', {"a": -9999.0, "b": None, "c": None, "d": None}),
        (b'{"a": -1e999, "b": 1.5E+400, "c": 1e300}', {"a": -9999.0, "b": None, "c": 1e300}),
        (b'{"a": 1e-999, "b": NaN}', {"a": 0.0, "b": None}),
        (b'{"a": ' + b"9" * 1000 + b"}", {"a": None}),
        (
            b'{"a": -' + b"9" * 400 + b'.5e-2, "b": 1.' + b"3" * 400 + b', "c": NaN}',
            {"a": -9999.0, "b": float(f"1.{'3' * 400}"), "c": None},
        ),
        (b'["inf", "\\"NaN", NaN]', ["inf", '"NaN', None]),
        (rb'["\\ud83d", "\\\ud83d", "\uD83D\uDE00"]', ["\\ud83d", "\\\ufffd", "😀"]),
        (b'["caf\xe9 \xf0\x9f"]', ["caf\ufffd \ufffd"]),
    ],
)
def test_what_servers_write(raw: bytes, value: Any):
    found, text = read_answer(raw)
    assert found == orjson.loads(text) == value


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[NaN", b'["\\ud83d', b"[nano]", b"[1,]", b"Infinit", b'{"a": "']
)
def test_what_is_no_json_stays_none(raw: bytes):
    with pytest.raises(orjson.JSONDecodeError):
        read_answer(raw)


@given(st.binary(max_size=60) | st.text('"\\ud83NaInfty-{}[],:0 ', max_size=60).map(str.encode))
def test_mending_never_raises_and_leaves_json_alone(raw: bytes):
    repair_surrogates(raw)
    mended = repair_answer(raw)
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        return
    assert mended == raw


@pytest.mark.parametrize(
    "text", [b"1" * 200_000, b"1." + b"1" * 200_000, b'"' * 200_001, b"\\" * 200_001, b"-" * 200_000]
)
def test_mending_takes_linear_time(text: bytes):
    """Else the tests' time limit ends it."""
    repair_answer(b"[" + text + b" NaN")


@given(ODD_VALUES)
def test_an_event_that_needs_mending_is_noticed(value: Any):
    raw = write_odd_json({"a": value})
    if read_answer(raw)[1] is not raw:
        assert may_need_mending(raw)


@pytest.mark.parametrize("digits", ["18446744073709551616", "-9223372036854775809", "1" * 100, "9" * 308])
def test_integers_of_more_than_64_bits_keep_their_digits(digits: str):
    for raw in (f'{{"a":{digits}}}', f'["{digits}",{digits},1.{"3" * 30}]', f"[1,[{digits}]]"):
        found = read_json(raw)
        assert json.loads(orjson.dumps(found)) == json.loads(raw)
        assert digits.encode() in orjson.dumps(found)


@pytest.mark.parametrize("raw", ["18446744073709551615", "-9223372036854775808", "1.00000000000000000001e5"])
def test_other_numbers_stay_numbers(raw: str):
    assert read_json(f"[{raw}]") == [json.loads(raw)]


PARTS: list[tuple[Any, dict[str, Any]]] = [
    (
        [
            {"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]},
            {"type": "text", "text": "It is"},
            {"type": "text", "text": " cold."},
        ],
        {"content": "It is cold.", "reasoning_content": "hm"},
    ),
    (
        [{"type": "thinking", "thinking": "hm"}, "It"],
        {"content": "It", "reasoning_content": "hm"},
    ),
    (
        [{"type": "output_text", "text": "It"}, {"type": "reference", "reference_ids": [1]}],
        {"content": "It"},
    ),
    ([], {"content": ""}),
    ([{"type": "text", "text": None}], {"content": ""}),
]


@pytest.mark.parametrize(("parts", "joined"), PARTS)
@pytest.mark.parametrize("key", ["message", "delta"])
def test_content_in_parts_is_text_and_reasoning(parts: Any, joined: dict[str, Any], key: str):
    raw = json.dumps({"choices": [{"index": 0, key: {"content": parts}}]}).encode()
    found, text = read_answer(raw)
    assert found["choices"][0][key] == joined
    assert orjson.loads(text) == found


@given(ODD_VALUES)
def test_no_content_makes_it_raise(content: Any):
    for value in ({"choices": [{"message": {"content": content}}]}, {"choices": content}, content):
        raw = write_odd_json(value)
        found, text = read_answer(raw)
        assert json.loads(text) == json.loads(orjson.dumps(found))


def test_a_part_that_is_no_text_is_not_lost():
    content = [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    raw = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
    assert read_answer(raw) == (json.loads(raw), raw)
