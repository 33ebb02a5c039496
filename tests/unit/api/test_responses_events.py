"""A chat stream as the Responses API's events: legal in any order of chunks, and the same answer in the end."""

from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.chat_streams import MADE, call, chunk, entry, streams, usage_chunk
from support.responses_types import typed_event

from gateway.api.responses.completed import to_response
from gateway.api.responses.events import ResponseEvents, encode
from gateway.wire.responses import assemble_response

Body = dict[str, Any]

REQUEST: Body = {"model": "auto", "input": "Hi", "temperature": 0.5}
ENDS = {"response.completed", "response.incomplete", "response.failed"}


def events_of(chunks: Iterable[Body], extra: Body | None = None) -> list[Body]:
    """The whole stream; usage is given to `finish`, as a gateway does that holds it back."""
    events = ResponseEvents(REQUEST, "resp_1", MADE)
    said = [chunk for chunk in chunks if chunk["choices"]]
    usage = next((chunk for chunk in chunks if not chunk["choices"]), None)
    return [*events.begin(), *[e for one in said for e in events.chunk(one)], *events.finish(usage, extra)]


def types_of(events: Iterable[Body]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


class Following:
    """Follows a stream as a strict client: fails on an event that may not come where it comes. `output` holds the
    items that are done, `open` those under way, with the texts of their parts."""

    def __init__(self) -> None:
        self.output: dict[int, Body] = {}
        self.open: dict[int, Body] = {}
        self.end: Body | None = None
        self.seen = 0

    def take(self, event: Body) -> None:
        assert event["sequence_number"] == self.seen
        assert self.end is None
        first = {0: "response.created", 1: "response.in_progress"}.get(self.seen)
        self.seen += 1
        if first is not None:
            assert (event["type"], event["response"]["output"]) == (first, [])
        elif event["type"] in ENDS:
            self.end = event["response"]
        elif event["type"] != "error":
            self._in_an_item(event)

    def _in_an_item(self, event: Body) -> None:
        _, subject, what = event["type"].split(".")
        if (subject, what) == ("output_item", "added"):
            self._added(event)
        elif (subject, what) == ("output_item", "done"):
            self._done(event)
        else:
            item = self.open[event["output_index"]]
            assert event["item_id"] == item["id"]
            if subject.startswith("reasoning_summary"):
                self._summary(item, subject, what, event)
            elif subject == "content_part":
                self._part(item, what, event)
            else:
                self._text(item, subject, what, event)

    def _added(self, event: Body) -> None:
        assert event["output_index"] == len(self.output) + len(self.open)
        assert {item["type"] for item in self.open.values()} <= {"function_call"}
        item = event["item"]
        assert item["status"] == "in_progress"
        call = item["type"] == "function_call"
        assert item["arguments" if call else "content"] in ("", [])
        parts = [{"kind": "function_call_arguments", "text": "", "done": None}] if call else []
        self.open[event["output_index"]] = item | {"parts": parts}

    def _done(self, event: Body) -> None:
        item = self.open.pop(event["output_index"])
        done = event["item"]
        assert {key: done[key] for key in ("id", "type")} == {key: item[key] for key in ("id", "type")}
        assert done["status"] != "in_progress"
        if done["type"] == "function_call":
            assert [done["arguments"]] == [part["done"] for part in item["parts"]]
            assert (done["call_id"], done["name"]) == (item["call_id"], item["name"])
        else:
            assert done["content"] == [part["closed"] for part in item["parts"]]
            assert done.get("summary", []) == item.get("summary", [])
        self.output[event["output_index"]] = done

    def _part(self, item: Body, what: str, event: Body) -> None:
        part = event["part"]
        if what == "added":
            assert event["content_index"] == len(item["parts"])
            assert text_of(part) == ""
            item["parts"].append({"kind": part["type"], "text": "", "done": None, "logprobs": []})
        else:
            held = item["parts"][event["content_index"]]
            assert (part["type"], text_of(part)) == (held["kind"], held["done"])
            held["closed"] = part

    def _summary(self, item: Body, subject: str, what: str, event: Body) -> None:
        """One part, that is added, grows, is done as a text, and then as a part."""
        assert event["summary_index"] == 0
        if what == "added":
            assert (item["summary"], event["part"]) == ([], {"type": "summary_text", "text": ""})
            item["summary"] = [{**event["part"]}]
            return
        (part,) = item["summary"]
        if what == "delta":
            part["text"] += event["delta"]
        else:
            assert part["text"] == (event["text"] if "text" in event else event["part"]["text"])

    def _text(self, item: Body, kind: str, what: str, event: Body) -> None:
        part = item["parts"][event.get("content_index", 0)]
        assert part["kind"] == kind
        assert part["done"] is None
        if what == "delta":
            part["text"] += event["delta"]
            part["logprobs"] = part.get("logprobs", []) + event.get("logprobs", [])
        else:
            part["done"] = event["arguments" if kind == "function_call_arguments" else key_of(kind)]
            assert part["done"] == part["text"]
            assert event.get("logprobs", []) == part.get("logprobs", [])


def key_of(kind: str) -> str:
    return "refusal" if kind == "refusal" else "text"


def text_of(part: Body) -> str:
    return str(part[key_of(part["type"])])


def followed(events: Iterable[Body]) -> Following:
    following = Following()
    for event in events:
        following.take(event)
    return following


def merged(output: list[Body]) -> Body:
    """An output without its order: the texts of each kind joined, and the calls."""
    found: Body = {"reasoning_text": "", "output_text": "", "refusal": "", "logprobs": [], "calls": []}
    for item in output:
        if item["type"] == "function_call":
            found["calls"].append({key: value for key, value in item.items() if key != "status"})
        for part in item.get("content", ()):
            found[part["type"]] += text_of(part)
            found["logprobs"] += part.get("logprobs", [])
    return found


@given(streams())
def test_every_stream_is_legal_and_its_last_response_is_what_was_streamed(chunks: list[Body]):
    following = followed(events_of(chunks))
    assert following.end is not None
    assert following.open == {}
    assert following.end["output"] == [following.output[index] for index in sorted(following.output)]


@given(streams(in_order=True), st.none() | st.just({"smallfirst": {"route": "slm"}}))
def test_the_last_response_is_that_of_the_assembled_chunks(chunks: list[Body], own: Body | None):
    *_, last = events_of(chunks, own)
    whole = assemble_response(chunks, "chat") | (own or {})
    assert last["response"] == to_response(whole, REQUEST, "resp_1")


@given(streams())
def test_in_any_order_the_last_response_says_the_same_as_the_assembled_chunks(chunks: list[Body]):
    *_, last = events_of(chunks)
    plain = to_response(assemble_response(chunks, "chat"), REQUEST, "resp_1")
    streamed = last["response"]
    assert merged(streamed.pop("output")) == merged(plain.pop("output"))
    assert streamed == plain


@given(streams())
def test_every_event_is_of_the_official_type(chunks: list[Body]):
    for event in events_of(chunks, {"smallfirst": {}}):
        typed_event(event)


@given(streams(), st.data())
def test_a_stream_that_breaks_off_anywhere_is_legal_and_says_what_came(
    chunks: list[Body], data: st.DataObject
):
    come = chunks[: data.draw(st.integers(0, len(chunks)))]
    events = ResponseEvents(REQUEST, "resp_1", MADE)
    sent = [*events.begin(), *[event for one in come for event in events.chunk(one)]]
    sent += events.fail("the upstream went away", "upstream_lost")
    following = followed(sent)
    assert types_of(sent)[-2:] == ["error", "failed"]
    assert [typed_event(event) for event in sent]
    assert following.end is not None
    assert following.end["error"] == {"code": "server_error", "message": "the upstream went away"}
    for index, item in enumerate(following.end["output"]):
        assert (
            item == following.output[index] if index in following.output else item["status"] == "incomplete"
        )
    plain = to_response(assemble_response([*come, chunk({})], "chat"), REQUEST, "resp_1")
    assert merged(following.end["output"]) | {"logprobs": []} == merged(plain["output"]) | {"logprobs": []}


def test_an_answer_streams_as_openai_streams_it():
    events = events_of(
        [chunk({"role": "assistant", "content": ""}), chunk({"content": "It"}), chunk({}, "stop")]
    )
    assert types_of(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]


def test_reasoning_is_told_as_reasoning_and_as_its_summary():
    events = events_of([chunk({"reasoning_content": "Hm"}), chunk({"reasoning": "."}), chunk({}, "stop")])
    assert types_of(events)[2:-6] == [
        "output_item.added",
        "content_part.added",
        "reasoning_summary_part.added",
        "reasoning_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_text.delta",
        "reasoning_summary_text.delta",
    ]
    followed(events)
    (reasoning,) = [item for item in events[-1]["response"]["output"] if item["type"] == "reasoning"]
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "Hm."}]
    assert reasoning["summary"] == [{"type": "summary_text", "text": "Hm."}]


def test_an_item_is_done_before_the_next_and_a_call_when_its_arguments_are():
    deltas = [
        {"reasoning_content": "Hm."},
        {"content": "Let me see."},
        call(0, "", "f"),
        call(0, '{"a":'),
        call(0, "1}"),
        call(1, "{}", "g"),
    ]
    events = events_of([*[chunk(delta) for delta in deltas], chunk({}, "tool_calls")])
    items = [kind for kind in types_of(events) if kind.startswith("output_item")]
    assert items == ["output_item.added", "output_item.done"] * 4
    assert [item["type"] for item in events[-1]["response"]["output"]] == [
        "reasoning",
        "message",
        "function_call",
        "function_call",
    ]


def test_calls_whose_arguments_come_in_turns_stay_open_beside_one_another():
    deltas = [call(0, "{", "f"), call(1, "{", "g"), call(0, "}"), call(1, "}")]
    events = events_of([*[chunk(delta) for delta in deltas], chunk({}, "tool_calls")])
    opened = [
        (kind, event["output_index"])
        for kind, event in zip(types_of(events), events, strict=True)
        if "item." in kind
    ]
    assert opened == [
        ("output_item.added", 0),
        ("output_item.added", 1),
        ("output_item.done", 0),
        ("output_item.done", 1),
    ]


def test_blanks_after_a_calls_arguments_say_nothing():
    deltas = [call(0, "{}", "f"), call(1, "{}", "g"), call(0, "\n")]
    events = events_of([*[chunk(delta) for delta in deltas], chunk({}, "tool_calls")])
    followed(events)
    assert [item["arguments"] for item in events[-1]["response"]["output"]] == ["{}", "{}"]


def test_a_text_that_is_gone_back_to_is_another_item():
    deltas = [{"content": "a"}, call(0, "{}", "f"), {"content": "b"}, {"reasoning": "hm"}]
    output = events_of([*[chunk(delta) for delta in deltas], chunk({}, "stop")])[-1]["response"]["output"]
    assert [item["id"] for item in output] == ["msg_1_0", "fc_1_0", "msg_1_1", "rs_1_0"]


def test_an_empty_answer_is_an_empty_message():
    events = events_of([chunk({"role": "assistant", "content": ""}), chunk({}, "stop")])
    followed(events)
    (message,) = events[-1]["response"]["output"]
    assert message["content"] == [{"type": "output_text", "text": "", "annotations": [], "logprobs": []}]


def test_a_token_of_less_than_a_character_is_kept_for_the_next_text():
    half = chunk({"content": ""}, logprobs={"content": [entry("\ufffd")]})
    events = events_of(
        [half, chunk({"content": "é"}, logprobs={"content": [entry("é")]}), half, chunk({}, "stop")]
    )
    (delta,) = [event for event in events if event["type"] == "response.output_text.delta"]
    assert [token["token"] for token in delta["logprobs"]] == ["\ufffd", "é"]
    (part,) = events[-1]["response"]["output"][0]["content"]
    assert [token["token"] for token in part["logprobs"]] == ["\ufffd", "é", "\ufffd"]


@pytest.mark.parametrize(
    ("code", "own"), [("rate_limit_exceeded", "rate_limit_exceeded"), ("overloaded", "server_error")]
)
def test_the_error_event_has_the_gateways_code_and_the_response_one_that_it_may_have(code: str, own: str):
    error, failed = ResponseEvents(REQUEST, "resp_1", MADE).fail("too many", code)
    assert (error["code"], error["message"]) == (code, "too many")
    assert failed["response"]["error"] == {"code": own, "message": "too many"}


def test_other_choices_than_the_first_are_left_out():
    second = chunk({"content": "b"})
    second["choices"][0]["index"] = 1
    (message,) = events_of([chunk({"content": "a"}), second, chunk({}, "stop")])[-1]["response"]["output"]
    assert text_of(message["content"][0]) == "a"


def test_the_model_usage_and_figures_of_the_last_chunk_stand_in_the_last_response():
    last = usage_chunk(smallfirst={"route": "llm"}, model="large", service_tier="flex")
    response = events_of([chunk({"content": "a"}), chunk({}, "stop"), last])[-1]["response"]
    assert (response["model"], response["smallfirst"], response["service_tier"]) == (
        "large",
        {"route": "llm"},
        "flex",
    )
    assert response["usage"]["total_tokens"] == 16


def test_an_event_is_sent_with_its_type_and_its_data():
    event = {"type": "response.output_text.delta", "sequence_number": 4, "delta": "one\ntwo"}
    head, data, *blank = encode(event).split(b"\n")
    assert head == b"event: response.output_text.delta"
    assert orjson.loads(data.removeprefix(b"data: ")) == event
    assert blank == [b"", b""]
