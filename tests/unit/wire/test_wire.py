"""OpenAI's shapes: what goes out, and what comes back in pieces."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.requests import build_continuation, build_upstream_request
from gateway.wire.responses import assemble_response, text_of, tokens_of, trim_logprobs
from routers.plan import Token

CHAT = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
PROMPT = {"model": "auto", "prompt": "Once"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
KNOWN = {"model", "messages", "stream", "stream_options", "logprobs", "top_logprobs", "smallfirst", "choices"}
UNKNOWN = st.dictionaries(st.text(min_size=1, max_size=6).filter(lambda key: key not in KNOWN), JSON)


def words(text: str, sizes: list[int]) -> list[str]:
    """The text cut into pieces of these sizes, the rest in one."""
    pieces = []
    for size in sizes:
        pieces.append(text[:size])
        text = text[size:]
    return [*pieces, text]


def chunk(delta: Any, **more: Any) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, **more}]}


def entry(token: str, *tops: float) -> dict[str, Any]:
    return {"token": token, "logprob": -0.5, "top_logprobs": [{"token": "t", "logprob": top} for top in tops]}


@given(UNKNOWN, st.booleans(), st.booleans())
def test_unknown_fields_go_out_as_they_came(more: dict[str, Any], stream: bool, watched: bool):
    body = CHAT | more
    kept = dict(body)
    out = build_upstream_request(
        body | {"smallfirst": {"tags": {}}}, "chat", "small", stream=stream, needs_logprobs=watched
    )
    assert {key: out[key] for key in more} == more
    assert (out["model"], out["messages"]) == ("small", CHAT["messages"])
    assert "smallfirst" not in out
    assert body == kept


def test_a_streams_usage_is_always_asked_for_and_other_options_kept():
    body = CHAT | {"stream_options": {"include_usage": False, "include_obfuscation": False}}
    out = build_upstream_request(body, "chat", "m", stream=True, needs_logprobs=False)
    assert out["stream"] is True
    assert out["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    assert build_upstream_request(
        CHAT | {"stream_options": None}, "chat", "m", stream=True, needs_logprobs=False
    )["stream_options"] == {"include_usage": True}
    assert "stream_options" not in build_upstream_request(
        CHAT, "chat", "m", stream=False, needs_logprobs=False
    )


@pytest.mark.parametrize(("asked", "sent"), [({}, 5), ({"top_logprobs": 2}, 5), ({"top_logprobs": 20}, 20)])
def test_a_watched_chat_asks_for_alternatives(asked: dict[str, Any], sent: int):
    out = build_upstream_request(CHAT | asked, "chat", "m", stream=True, needs_logprobs=True)
    assert (out["logprobs"], out["top_logprobs"]) == (True, sent)
    assert (
        build_upstream_request(CHAT | asked, "chat", "m", stream=True, needs_logprobs=False).get("logprobs")
        is None
    )


@pytest.mark.parametrize(("asked", "sent"), [({}, 5), ({"logprobs": None}, 5), ({"logprobs": 8}, 8)])
def test_a_watched_completion_asks_in_the_older_form(asked: dict[str, Any], sent: int):
    out = build_upstream_request(PROMPT | asked, "completions", "m", stream=True, needs_logprobs=True)
    assert out["logprobs"] == sent
    assert "top_logprobs" not in out


def test_a_continuation_ends_in_the_begun_answer_with_the_allowance_left():
    body = CHAT | {"max_tokens": 20, "max_completion_tokens": 3}
    again = build_continuation(body, "chat", "It is", 8)
    assert again["messages"] == [*CHAT["messages"], {"role": "assistant", "content": "It is"}]
    assert (again["max_tokens"], again["max_completion_tokens"]) == (12, 1)
    assert len(body["messages"]) == 1
    assert build_continuation(PROMPT, "completions", " upon", 1) == {"model": "auto", "prompt": "Once upon"}
    assert build_continuation(CHAT | {"max_tokens": None}, "chat", "It", 1)["max_tokens"] is None


@pytest.mark.parametrize(
    ("choice", "tokens"),
    [
        (
            {"delta": {"content": "a b"}, "logprobs": {"content": [entry("a", -0.5, -3), entry(" b")]}},
            [Token("a", -0.5, [-0.5, -3]), Token(" b", -0.5, [])],
        ),
        (
            {"delta": {"content": "a"}, "logprobs": {"content": [{"token": "a", "logprob": -1.0}]}},
            [Token("a", -1.0, [])],
        ),
        (
            {
                "text": "a b",
                "logprobs": {
                    "tokens": ["a", " b"],
                    "token_logprobs": [None, -0.5],
                    "top_logprobs": [None, {"x": -2.0, "y": None, " b": -0.5}],
                    "text_offset": [0, 1],
                },
            },
            [Token("a", None, []), Token(" b", -0.5, [-0.5, -2.0])],
        ),
        (
            {"text": "a", "logprobs": {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": None}},
            [Token("a", -0.5, [])],
        ),
        ({"text": "a", "logprobs": {"content": [entry("a", -0.5)]}}, [Token("a", -0.5, [-0.5])]),
        ({"delta": {"content": "a"}}, [Token("a", None, ())]),
        ({"delta": {"content": "a"}, "logprobs": None}, [Token("a", None, ())]),
        ({"delta": {"content": "a"}, "logprobs": {"content": []}}, [Token("a", None, ())]),
        ({"delta": {"role": "assistant", "content": None}}, []),
        ({"delta": {}, "finish_reason": "stop"}, []),
    ],
    ids=[
        "OpenAI",
        "without alternatives",
        "vLLM completions",
        "vLLM completions, none asked",
        "llama.cpp completions",
        "no logprobs",
        "null logprobs",
        "empty logprobs",
        "role",
        "finish",
    ],
)
def test_tokens_are_read_from_every_servers_shape(choice: dict[str, Any], tokens: list[Token]):
    read = [Token(token.text, token.logprob, token.top) for token in tokens_of(choice, text_of(choice))]
    assert read == tokens


def test_only_the_logprobs_that_were_asked_for_are_left():
    def event() -> dict[str, Any]:
        return {"choices": [{"logprobs": {"content": [entry("a", -0.5, -3)]}}, {"logprobs": None}, {}]}

    assert trim_logprobs(event(), None) == {"choices": [{}, {}, {}]}
    for wanted in (0, 1, 2, 9):
        kept = trim_logprobs(event(), wanted)["choices"][0]["logprobs"]["content"]
        assert kept == [entry("a", *(-0.5, -3)[:wanted])]
    assert trim_logprobs({"usage": {}}, 2) == {"usage": {}}


def test_the_older_forms_alternatives_are_trimmed_too():
    logprobs = {
        "tokens": ["a"],
        "token_logprobs": [-0.5],
        "top_logprobs": [{"z": -9.0, "n": None, "a": -0.5, "b": -3.0}],
    }
    trimmed = trim_logprobs({"choices": [{"text": "a", "logprobs": logprobs}]}, 2)
    assert trimmed["choices"][0]["logprobs"]["top_logprobs"] == [{"a": -0.5, "b": -3.0}]


@given(st.text(max_size=40), st.lists(st.integers(0, 9), max_size=8), UNKNOWN)
def test_a_chat_stream_assembles_to_its_text_however_it_was_cut(
    text: str, sizes: list[int], more: dict[str, Any]
):
    pieces = words(text, sizes)
    events = [chunk({"role": "assistant", "content": ""}, logprobs=None)]
    events += [chunk({"content": p}, logprobs={"content": [entry(p, -0.5)]}) for p in pieces]
    events += [chunk({}, finish_reason="stop"), {"choices": [], "usage": {"total_tokens": 1}}]
    whole = assemble_response([event | {"vendor": more} for event in events], "chat")
    (choice,) = whole["choices"]
    assert whole["object"] == "chat.completion"
    assert (whole["id"], whole["vendor"], whole["usage"]) == ("c", more, {"total_tokens": 1})
    assert choice["message"] == {"role": "assistant", "content": text}
    assert choice["finish_reason"] == "stop"
    assert choice["logprobs"]["content"] == [entry(piece, -0.5) for piece in pieces]


@given(st.text(max_size=40), st.lists(st.integers(0, 9), max_size=8))
def test_a_completions_stream_assembles_to_its_text_however_it_was_cut(text: str, sizes: list[int]):
    pieces = words(text, sizes)
    events = [
        {"choices": [{"index": 0, "text": p, "logprobs": {"tokens": [p], "token_logprobs": [-1.0]}}]}
        for p in pieces
    ]
    (choice,) = assemble_response(events, "completions")["choices"]
    assert choice["text"] == text
    assert choice["logprobs"] == {"tokens": pieces, "token_logprobs": [-1.0] * len(pieces)}


def test_choices_are_assembled_apart_and_unknown_parts_of_a_message_kept():
    events = [
        {"choices": [{"index": 1, "delta": {"content": "b", "reasoning_content": "hm"}}]},
        {"choices": [{"index": 0, "delta": {"content": "a"}, "odd": 1}]},
        {"choices": [{"index": 1, "delta": {"content": "c", "reasoning_content": "m"}}]},
    ]
    first, second = assemble_response(events, "chat")["choices"]
    assert first == {"index": 0, "message": {"role": "assistant", "content": "a"}, "odd": 1}
    assert second["message"] == {"role": "assistant", "content": "bc", "reasoning_content": "hmm"}


def call_delta(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    return {
        "tool_calls": [
            {"index": index, "function": {"arguments": arguments, **more.pop("function", {})}, **more}
        ]
    }


@given(
    st.lists(st.tuples(st.text(max_size=12), st.lists(st.integers(0, 4), max_size=4)), max_size=3), st.data()
)
def test_tool_calls_are_put_together_by_their_index_whatever_comes_between(
    calls: list[tuple[str, list[int]]], data: st.DataObject
):
    begun = [
        call_delta(i, "", id=f"c{i}", type="function", function={"name": f"f{i}"}) for i in range(len(calls))
    ]
    pieces = [[call_delta(i, piece) for piece in words(*call)] for i, call in enumerate(calls)]
    turns = data.draw(st.permutations([i for i, deltas in enumerate(pieces) for _ in deltas]))
    deltas = [{"content": "Now"}, *begun, {"content": " then"}, *[pieces[i].pop(0) for i in turns]]
    kept = repr(deltas)
    (choice,) = assemble_response([chunk(delta) for delta in deltas], "chat")["choices"]
    assert choice["message"]["content"] == "Now then"
    assert choice["message"].get("tool_calls", []) == [
        {"id": f"c{i}", "type": "function", "function": {"name": f"f{i}", "arguments": arguments}}
        for i, (arguments, _) in enumerate(calls)
    ]
    assert repr(deltas) == kept


@pytest.mark.parametrize(
    "again",
    [{}, {"id": None, "type": None}, {"id": "", "function": {"name": ""}}, {"id": "c", "type": "function"}],
)
def test_what_a_call_says_once_stands_however_a_server_goes_on(again: dict[str, Any]):
    first = call_delta(0, "{", id="c", type="function", function={"name": "f"})
    (choice,) = assemble_response([chunk(first), chunk(call_delta(0, "}", **again))], "chat")["choices"]
    assert choice["message"]["tool_calls"] == [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]


def test_calls_without_an_index_are_those_of_one_delta():
    calls = [{"id": name, "function": {"name": name, "arguments": "{}"}} for name in "ab"]
    (choice,) = assemble_response([chunk({"tool_calls": calls}), chunk({"tool_calls": None})], "chat")[
        "choices"
    ]
    assert choice["message"]["tool_calls"] == calls


def test_objects_of_a_delta_are_put_together_too():
    deltas = [
        {"audio": {"id": "a", "transcript": "Hi"}},
        {"audio": {"transcript": " there", "expires_at": 9}},
    ]
    (choice,) = assemble_response([chunk(delta) for delta in deltas], "chat")["choices"]
    assert choice["message"]["audio"] == {"id": "a", "transcript": "Hi there", "expires_at": 9}
