"""Tool calls of a stream: which delta belongs to which call, whatever a server sends to tell them apart."""

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given
from support.chat_streams import chunk
from support.tool_call_streams import SentCalls, joined_calls, tool_call_streams

from gateway.wire.chunks.tool_calls import ToolCalls, stringify_arguments
from gateway.wire.responses import assemble_response

Part = dict[str, Any]


def normal(parts: list[Part]) -> list[tuple[str, str, str]]:
    """The calls of deltas that come one by one."""
    calls = ToolCalls()
    return joined_calls([chunk({"tool_calls": calls.read([part])}) for part in copy.deepcopy(parts)])


def part(arguments: Any = "", **more: Any) -> Part:
    name = {"name": more.pop("name")} if "name" in more else {}
    return {**more, "function": {**name, "arguments": arguments}}


@given(tool_call_streams())
def test_calls_are_told_apart_in_every_dialect(sent: SentCalls):
    calls, deltas = ToolCalls(), [copy.deepcopy(each["choices"][0]["delta"]) for each in sent.chunks]
    for delta in deltas:
        calls.normalize(delta)
    assert joined_calls([chunk(delta) for delta in deltas]) == sent.calls
    assert [(call.id, call.name, call.text) for call in calls.calls] == sent.calls


@given(tool_call_streams())
def test_what_is_in_openais_form_stays_as_it_is(sent: SentCalls):
    calls, again = ToolCalls(), ToolCalls()
    for each in sent.chunks:
        delta = each["choices"][0]["delta"]
        calls.normalize(delta)
        assert not again.normalize(delta)


@given(tool_call_streams())
def test_an_answer_is_assembled_in_every_dialect_and_its_chunks_stay(sent: SentCalls):
    kept = repr(sent.chunks)
    (choice,) = assemble_response(sent.chunks, "chat")["choices"]
    found = [
        (call.get("id") or "", call["function"]["name"], call["function"]["arguments"])
        for call in choice["message"].get("tool_calls", [])
    ]
    assert found == sent.calls
    assert repr(sent.chunks) == kept


def test_openais_own_deltas_are_not_rewritten():
    first = part(index=0, id="a", type="function", name="f")
    calls = ToolCalls()
    for each in (first, part("{", index=0), part("}", index=0), part("{}", index=1, id="b", name="f")):
        assert not calls.normalize({"tool_calls": [each]})
    assert not calls.normalize({"content": "x", "tool_calls": None})


@pytest.mark.parametrize(
    "index", [{}, {"index": None}, {"index": 0}, {"index": "0"}, {"index": "a"}, {"index": 7}]
)
def test_a_new_id_begins_a_new_call_whatever_the_index(index: Part):
    parts = [
        part("{", **index, id="a", name="f"),
        part("}", **index),
        part("", **index, id="b", name="f"),
        part("{}", **index),
        part("", **index, id="c", name="g"),
    ]
    assert normal(parts) == [("a", "f", "{}"), ("b", "f", "{}"), ("c", "g", "")]


def test_names_ids_and_types_that_are_repeated_count_once():
    again = {"index": 0, "id": "a", "type": "function", "name": "f"}
    calls = ToolCalls()
    read = calls.read([part(piece, **again) for piece in ("", '{"a":', "1}")])
    assert read == [
        {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"a":'}},
        {"index": 0, "function": {"arguments": "1}"}},
    ]


def test_a_fresh_id_for_each_piece_is_no_new_call():
    parts = [part("", index=0, id="a", name="f"), part("{", index=0, id="b"), part("}", index=0, id="c")]
    assert normal(parts) == [("a", "f", "{}")]


def test_an_id_that_comes_late_is_its_calls():
    parts = [part("{", index=0, name="f"), part("}", index=0, id="a"), part("{}", index=0, id="b", name="g")]
    assert normal(parts) == [("a", "f", "{}"), ("b", "g", "{}")]


def test_a_whole_call_sent_again_counts_once_and_another_with_its_id_twice():
    call = part('{"a":1}', index=0, id="a", name="f")
    assert normal([call, call]) == [("a", "f", '{"a":1}')]
    assert normal([call, part('{"a":2}', index=0, id="a", name="f")])[1:] == [("a", "f", '{"a":2}')]


def test_a_name_in_pieces_is_one_name():
    parts = [part(index=0, id="a", name="get_"), part(index=0, name="weather"), part("{}", index=0)]
    assert normal(parts) == [("a", "get_weather", "{}")]


def test_numbers_stand_for_ids_and_arguments_of_any_kind_become_text():
    parts = [part({"b": [1, "é"]}, id=7, name="f"), part([1], id=8, name="g"), part(None, id=9, name="h")]
    assert normal(parts) == [("7", "f", '{"b":[1,"é"]}'), ("8", "g", "[1]"), ("9", "h", "")]


def test_custom_tools_have_an_input_instead_of_arguments():
    calls = ToolCalls()
    first = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "sh", "input": "l"}}
    again = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "sh", "input": "s"}}
    assert calls.read([first]) == [first]
    assert calls.read([again]) == [{"index": 0, "custom": {"input": "s"}}]
    assert (calls.calls[0].name, calls.calls[0].text) == ("sh", "ls")


@pytest.mark.parametrize("odd", [1, "x", {"function": {"name": 5}}, {"function": [1]}])
def test_what_is_no_delta_of_a_call_is_an_error(odd: Any):
    with pytest.raises((TypeError, AttributeError)):
        ToolCalls().read([odd])


def test_arguments_of_a_plain_response_become_text():
    called = {"id": "a", "function": {"name": "f", "arguments": {"a": 1}}}
    choices = [
        {"message": {"tool_calls": [called, {"id": "b", "function": {"name": "g", "arguments": "{}"}}]}}
    ]
    assert stringify_arguments(choices)
    assert orjson.loads(called["function"]["arguments"]) == {"a": 1}  # type: ignore[index]
    assert not stringify_arguments(choices)
    assert not stringify_arguments([{"message": {"content": "x", "tool_calls": None}}, {"text": "y"}])
