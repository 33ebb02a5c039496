"""A /v1/responses body as the chat request that answers it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessageParam
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter
from support.chat_streams import TEXT

from gateway.api.responses.completed import to_response
from gateway.api.responses.request import READ_FIELDS, to_chat
from gateway.wire.validation import check_chat

Body = dict[str, Any]

RESPONSES: TypeAdapter[Any] = TypeAdapter(ResponseCreateParamsNonStreaming)
CHAT: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsNonStreaming)
MESSAGE: TypeAdapter[Any] = TypeAdapter(ChatCompletionMessageParam)

HI = {"role": "user", "content": "Hi"}
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
CHAT_CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "7"}


def chat_of(**fields: Any) -> Body:
    """The chat request of a body that is what the official client sends, itself what it would send."""
    body = {"model": "auto", "input": "Hi", **fields}
    consumed(RESPONSES.validate_python(body))
    chat = to_chat(body)
    consumed(CHAT.validate_python(chat))
    for message in chat["messages"]:
        consumed(MESSAGE.validate_python(message))
    check_chat(chat)
    return chat


def consumed(value: Any) -> None:
    """The client's types check the elements of an iterable only as it is read."""
    if isinstance(value, dict):
        value = value.values()
    if not isinstance(value, str | int | float | bool | None):
        for one in value:
            consumed(one)


def messages_of(*items: Any) -> list[Body]:
    messages: list[Body] = chat_of(input=list(items))["messages"]
    return messages


def test_a_text_is_a_users_message_and_instructions_come_before_it():
    assert chat_of() == {"model": "auto", "messages": [HI]}
    assert chat_of(instructions="Be brief.")["messages"] == [{"role": "system", "content": "Be brief."}, HI]


@pytest.mark.parametrize(
    ("given", "out"),
    [
        ({"max_output_tokens": 9}, {"max_completion_tokens": 9}),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
        ({"text": {"verbosity": "low"}}, {"verbosity": "low"}),
        ({"text": {"format": {"type": "text"}}}, {}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": SCHEMA, "strict": True},
                }
            },
        ),
        (
            {"include": ["message.output_text.logprobs"], "top_logprobs": 3},
            {"logprobs": True, "top_logprobs": 3},
        ),
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": True}),
        ({"include": ["reasoning.encrypted_content"], "top_logprobs": 3}, {}),
        ({"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
        ({"user": "u", "safety_identifier": "s"}, {"user": "u", "safety_identifier": "s"}),
        (
            {"prompt_cache_key": "k", "service_tier": "flex"},
            {"prompt_cache_key": "k", "service_tier": "flex"},
        ),
        ({"metadata": {"a": "b"}}, {}),
        ({"store": True, "truncation": "auto", "background": False, "max_tool_calls": 2}, {}),
        ({"previous_response_id": None, "conversation": None, "prompt": None, "instructions": None}, {}),
        ({"tools": [], "tool_choice": "auto", "parallel_tool_calls": False}, {}),
    ],
    ids=str,
)
def test_a_field_is_what_chat_calls_it(given: Body, out: Body):
    assert chat_of(**given) == {"model": "auto", "messages": [HI], **out}


def test_a_streams_usage_is_asked_for():
    assert to_chat({"model": "m", "input": "Hi", "stream": True})["stream_options"] == {"include_usage": True}
    body = {"model": "m", "input": "Hi", "stream": True, "stream_options": {"include_obfuscation": False}}
    assert to_chat(body)["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert "stream_options" not in to_chat(body | {"stream": False})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT, lambda inner: st.lists(inner, max_size=2)
)
NAMES = st.sampled_from(["smallfirst", "seed", "vendor"]) | TEXT.filter(lambda name: name not in READ_FIELDS)


@given(st.dictionaries(NAMES, JSON, max_size=4))
def test_unknown_fields_pass_through_and_the_body_stays_as_it_was(more: Body):
    body = {**more, "model": "auto", "input": [HI], "tools": [{"type": "function", "name": "f"}]}
    kept = repr(body)
    chat = to_chat(body)
    assert {key: chat[key] for key in more if key != "messages"} == {
        key: body[key] for key in more if key != "messages"
    }
    assert repr(body) == kept


@pytest.mark.parametrize("role", ["user", "assistant", "system", "developer"])
def test_messages_keep_their_roles_with_or_without_a_type(role: str):
    assert messages_of({"role": role, "content": "Hi"}) == [{"role": role, "content": "Hi"}]
    assert messages_of({"type": "message", "role": role, "content": "Hi"}) == [
        {"role": role, "content": "Hi"}
    ]


def test_parts_are_chats_parts():
    parts = [
        {"type": "input_text", "text": "What is it?", "prompt_cache_breakpoint": {"mode": "explicit"}},
        {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
        {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "auto", "file_id": None},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
    ]
    (message,) = messages_of({"role": "user", "content": parts})
    assert message["content"] == [
        {"type": "text", "text": "What is it?", "prompt_cache_breakpoint": {"mode": "explicit"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "auto"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="}},
    ]


def test_a_single_part_of_text_is_its_text_and_several_stay_parts():
    one, two = {"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}
    assert messages_of({"role": "user", "content": [one]}) == [{"role": "user", "content": "a"}]
    (message,) = messages_of({"role": "user", "content": [one, two]})
    assert message["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


def test_audio_is_the_same_in_both():
    audio = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
    (message,) = to_chat({"model": "m", "input": [{"role": "user", "content": [audio]}]})["messages"]
    assert message["content"] == [audio]


def test_calls_and_their_outputs_are_an_assistants_message_and_tools_messages():
    second = CALL | {"call_id": "c2"}
    image = {"type": "input_image", "image_url": "https://example.org/a.png"}
    said = {"role": "assistant", "content": "Let me see."}
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}
    found = to_chat(
        {
            "model": "m",
            "input": [
                HI,
                reasoning,
                said,
                CALL,
                second,
                OUTPUT,
                OUTPUT | {"call_id": "c2", "output": [image]},
                CALL,
            ],
        }
    )["messages"]
    assert found == [
        HI,
        said | {"tool_calls": [CHAT_CALL, CHAT_CALL | {"id": "c2"}]},
        {"role": "tool", "tool_call_id": "c1", "content": "7"},
        {
            "role": "tool",
            "tool_call_id": "c2",
            "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}],
        },
        {"role": "assistant", "content": None, "tool_calls": [CHAT_CALL]},
    ]


def test_calls_stand_in_the_last_of_adjacent_assistant_messages_as_their_outputs_must_follow():
    before, after = ({"role": "assistant", "content": text} for text in ("a", "b"))
    assert messages_of(HI, before, CALL, after, OUTPUT)[1:3] == [before, after | {"tool_calls": [CHAT_CALL]}]
    assert messages_of(HI, CALL, after, OUTPUT)[1] == after | {"tool_calls": [CHAT_CALL]}
    assert [message["role"] for message in messages_of(HI, CALL, OUTPUT, after)] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]


MESSAGES = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": TEXT.filter(bool)},
    optional={"refusal": TEXT.filter(bool), "tool_calls": st.just([CHAT_CALL, CHAT_CALL | {"id": "c2"}])},
) | st.sampled_from(
    [
        {"role": "assistant", "content": None, "tool_calls": [CHAT_CALL]},
        {"role": "assistant", "content": None, "refusal": "No."},
    ]
)


@given(MESSAGES)
def test_an_answer_given_back_as_input_is_the_message_that_it_came_from(message: Body):
    whole = {
        "choices": [{"message": message | {"reasoning": "Hm."}, "finish_reason": "stop"}],
        "model": "small",
    }
    output = to_response(whole, {"model": "auto"}, "resp_1")["output"]
    assert messages_of(HI, *output) == [HI, message]


TOOL = {"type": "function", "name": "f", "description": "Adds.", "parameters": SCHEMA, "strict": True}


def test_a_flat_tool_is_nested_and_nulls_left_out():
    fields = chat_of(tools=[TOOL, {"type": "function", "name": "g", "parameters": None, "strict": None}])
    assert fields["tools"] == [
        {
            "type": "function",
            "function": {"name": "f", "description": "Adds.", "parameters": SCHEMA, "strict": True},
        },
        {"type": "function", "function": {"name": "g"}},
    ]


@pytest.mark.parametrize(
    ("given", "out"),
    [
        ("none", "none"),
        ("auto", "auto"),
        ("required", "required"),
        ({"type": "function", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
        ),
    ],
    ids=str,
)
def test_a_choice_of_tools_is_nested(given: Any, out: Any):
    fields = chat_of(tools=[TOOL], tool_choice=given, parallel_tool_calls=False)
    assert (fields["tool_choice"], fields["parallel_tool_calls"]) == (out, False)
