"""A chat completion as a response object."""

from typing import Any

import pytest
from hypothesis import given
from support.chat_streams import MADE, entry, streams, usage_chunk
from support.responses_types import typed_response

from gateway.api.responses.completed import to_response
from gateway.wire.responses import assemble_response

Body = dict[str, Any]


def response_of(message: Body, finish: str | None = "stop", request: Body | None = None, **more: Any) -> Body:
    logprobs = more.pop("logprobs", None)
    choice = {
        "index": 0,
        "message": {"role": "assistant", **message},
        "finish_reason": finish,
        "logprobs": logprobs,
    }
    whole = {
        "id": "c",
        "object": "chat.completion",
        "created": MADE,
        "model": "small",
        "choices": [choice],
        **more,
    }
    response = to_response(whole, {"model": "auto", "input": "Hi", **(request or {})}, "resp_1")
    typed_response(response)
    return response


def call(name: str, arguments: str, **more: Any) -> Body:
    return {
        "id": f"call_{name}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
        **more,
    }


def test_a_text_is_a_completed_response():
    response = response_of({"content": "It is cold."})
    assert {key: response[key] for key in ("id", "object", "created_at", "status", "model", "error")} == {
        "id": "resp_1",
        "object": "response",
        "created_at": MADE,
        "status": "completed",
        "model": "small",
        "error": None,
    }
    assert response["output"] == [
        {
            "id": "msg_1_0",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "It is cold.", "annotations": [], "logprobs": []}],
        }
    ]
    assert typed_response(response).output_text == "It is cold."


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_reasoning_message_and_calls_are_items_in_that_order(key: str):
    calls = [call("f", '{"a": 1}'), call("g", "{}", id=None)]
    output = response_of({key: "Hm.", "content": "Let me see.", "tool_calls": calls}, "tool_calls")["output"]
    reasoning, message, first, second = output
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "Hm."}]
    assert reasoning["summary"] == [{"type": "summary_text", "text": "Hm."}]
    assert message["content"][0]["text"] == "Let me see."
    assert first == {
        "id": "fc_1_0",
        "type": "function_call",
        "call_id": "call_f",
        "name": "f",
        "arguments": '{"a": 1}',
        "status": "completed",
    }
    assert (second["id"], second["call_id"]) == ("fc_1_1", "call_1_1")


def test_calls_alone_make_no_message():
    output = response_of({"content": "", "tool_calls": [call("f", "{}")]}, "tool_calls")["output"]
    assert [item["type"] for item in output] == ["function_call"]


@pytest.mark.parametrize("content", [None, "", []])
def test_an_empty_answer_is_an_empty_message(content: Any):
    (message,) = response_of({"content": content})["output"]
    assert message["content"] == [{"type": "output_text", "text": "", "annotations": [], "logprobs": []}]


def test_a_refusal_is_a_part_of_its_own():
    (message,) = response_of({"content": None, "refusal": "No."})["output"]
    assert message["content"] == [{"type": "refusal", "refusal": "No."}]


def test_logprobs_stand_with_the_text_and_missing_bytes_are_the_tokens_own():
    given = [entry("é"), entry("?") | {"bytes": [195]}]
    (message,) = response_of({"content": "é?"}, logprobs={"content": given})["output"]
    first, second = message["content"][0]["logprobs"]
    assert first == {
        "token": "é",
        "bytes": [195, 169],
        "logprob": -0.5,
        "top_logprobs": [{"token": "é", "bytes": [195, 169], "logprob": -0.5}],
    }
    assert second["bytes"] == [195]


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", None),
        ("tool_calls", None),
        (None, None),
        ("length", "max_output_tokens"),
        ("content_filter",) * 2,
    ],
)
def test_the_finish_says_whether_the_response_is_complete_and_why_not(finish: str | None, reason: str | None):
    response = response_of({"content": "It"}, finish)
    assert response["status"] == ("incomplete" if reason else "completed")
    assert response["incomplete_details"] == ({"reason": reason} if reason else None)
    assert response["output"][0]["status"] == response["status"]


@pytest.mark.parametrize(
    ("message", "statuses"),
    [
        ({"reasoning": "Hm"}, ["incomplete"]),
        ({"reasoning": "Hm.", "content": "It"}, ["completed", "incomplete"]),
        (
            {"content": "It.", "tool_calls": [call("f", "{}"), call("g", '{"a')]},
            ["completed", "completed", "incomplete"],
        ),
    ],
)
def test_of_an_answer_that_was_cut_off_only_what_was_being_written_is_incomplete(
    message: Body, statuses: list[str]
):
    assert [item["status"] for item in response_of(message, "length")["output"]] == statuses


def test_usage_has_responses_names():
    assert response_of({"content": "a"}, usage=usage_chunk()["usage"])["usage"] == {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 16,
    }
    bare = response_of({"content": "a"}, usage={"prompt_tokens": 1, "completion_tokens": 2})["usage"]
    assert (bare["total_tokens"], bare["input_tokens_details"]["cached_tokens"]) == (3, 0)
    assert response_of({"content": "a"})["usage"] is None


def test_what_was_asked_for_is_given_back():
    request = {
        "instructions": "Be brief.",
        "max_output_tokens": 9,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "temperature": 0.5,
        "top_p": 0.9,
        "tool_choice": {"type": "function", "name": "f"},
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}],
        "user": "u",
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "top_logprobs": 3,
        "max_tool_calls": 4,
        "previous_response_id": "resp_0",
        "store": False,
    }
    more = {"reasoning": {"effort": "low"}, "text": {"verbosity": "low"}}
    response = response_of({"content": "a"}, request=request | more)
    assert {key: response[key] for key in request} == request
    assert response["reasoning"] == {"effort": "low", "summary": None}
    assert response["text"] == {"format": {"type": "text"}, "verbosity": "low"}


def test_what_is_not_done_is_not_claimed():
    request = {"truncation": "auto", "background": False}
    assert response_of({"content": "a"}, request=request)["truncation"] == "disabled"


def test_the_tier_that_served_is_named_and_our_own_figures_pass_through():
    request = {"service_tier": "auto"}
    assert response_of({"content": "a"}, request=request)["service_tier"] == "auto"
    served = response_of({"content": "a"}, request=request, service_tier="flex", smallfirst={"route": "slm"})
    assert (served["service_tier"], served["smallfirst"]) == ("flex", {"route": "slm"})


@given(streams())
def test_any_answer_is_of_the_official_type(chunks: list[Body]):
    typed_response(to_response(assemble_response(chunks, "chat"), {"model": "auto"}, "resp_1"))
