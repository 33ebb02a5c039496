"""What of the Responses API is refused, and what is misshapen: each error names the field and says why."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.responses.request import READ_FIELDS, to_chat
from gateway.errors import ApiError
from gateway.wire.validation import check_chat

Body = dict[str, Any]

HI = {"role": "user", "content": "Hi"}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "7"}
TOOL = {"type": "function", "name": "f"}


def refusal_of(**fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        to_chat({"model": "auto", "input": "Hi", **fields})
    assert caught.value.status == 400
    assert caught.value.message.startswith(f"{caught.value.param} ")
    return caught.value


HOSTED = [
    "web_search",
    "file_search",
    "code_interpreter",
    "computer_use_preview",
    "mcp",
    "image_generation",
    "local_shell",
    "tool_search",
]
"""Tools that OpenAI runs, or that clients run in shapes which chat lacks."""


@pytest.mark.parametrize("kind", HOSTED)
def test_hosted_tools_that_must_be_called_are_refused_by_name(kind: str):
    error = refusal_of(tools=[TOOL, {"type": kind}], tool_choice="required")
    assert (error.code, error.param) == ("not_supported", "tools[1].type")
    assert kind in error.message
    inner = {"type": "namespace", "name": "n", "tools": [TOOL, {"type": kind}]}
    assert refusal_of(tools=[inner], tool_choice="required").param == "tools[0].tools[1].type"
    chosen = refusal_of(tools=[TOOL, {"type": kind}], tool_choice={"type": kind})
    assert (chosen.code, chosen.param) == ("not_supported", "tool_choice.type")
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [TOOL, {"type": kind}]}
    among = refusal_of(tools=[TOOL, {"type": kind}], tool_choice=allowed)
    assert (among.code, among.param) == ("not_supported", "tool_choice.tools[1].type")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"conversation": "conv_0"}, "no conversation is stored"),
        ({"prompt": {"id": "pmpt_0"}}, "prompt templates are stored at OpenAI"),
        ({"background": True}, "wait for the response, or stream it"),
        ({"input": [{"type": "web_search_call", "id": "ws_0"}]}, "'web_search_call' items are not read here"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "send image_url",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "u"}]}]},
            "send file_data",
        ),
    ],
    ids=str,
)
def test_what_needs_a_server_that_remembers_is_refused_with_the_reason(fields: Body, why: str):
    error = refusal_of(**fields)
    assert error.code == "not_supported"
    assert why in error.message


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"input": None}, "input", "is required"),
        ({"input": 7}, "input", "must be a string or a list of items, not an integer"),
        ({"input": []}, "input", "at least one message"),
        ({"input": ["Hi"]}, "input[0]", "must be an object, not a string"),
        ({"input": [HI, {"content": "Hi"}]}, "input[1].role", "is required"),
        ({"input": [{"role": "tool", "content": "Hi"}]}, "input[0].role", "must be one of user"),
        ({"input": [{"role": "user"}]}, "input[0].content", "must be a string or a list, not null"),
        ({"input": [{"type": 7}]}, "input[0].type", "must be a string"),
        ({"input": [{"role": "user", "content": [7]}]}, "input[0].content[0]", "must be an object"),
        ({"input": [HI, {"role": "user", "content": [{}]}]}, "input[1].content[0].type", "is required"),
        (
            {"input": [{"role": "user", "content": [{"type": "text"}]}]},
            "input[0].content[0].type",
            "input_text",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": 7}]}]},
            "input[0].content[0].text",
            "must be a string, not an integer",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": {}}]}]},
            "input[0].content[0].image_url",
            "must be a string, not an object",
        ),
        ({"input": [CALL | {"call_id": None}]}, "input[0].call_id", "is required"),
        ({"input": [CALL | {"arguments": {}}]}, "input[0].arguments", "must be a string, not an object"),
        ({"input": [OUTPUT | {"output": 7}]}, "input[0].output", "must be a string or a list"),
        ({"instructions": ["Be brief."]}, "instructions", "must be a string, not a list"),
        ({"max_output_tokens": "9"}, "max_output_tokens", "must be an integer, not a string"),
        ({"max_output_tokens": True}, "max_output_tokens", "must be an integer, not a boolean"),
        ({"stream": 1}, "stream", "must be a boolean, not an integer"),
        ({"stream_options": []}, "stream_options", "must be an object"),
        ({"reasoning": "low"}, "reasoning", "must be an object"),
        ({"reasoning": {"effort": 1}}, "reasoning.effort", "must be a string"),
        ({"text": []}, "text", "must be an object"),
        ({"text": {"format": {}}}, "text.format.type", "is required"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "must be one of text"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name", "is required"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema", "is required"),
        ({"include": "all"}, "include", "must be a list"),
        ({"top_logprobs": "5"}, "top_logprobs", "must be an integer"),
        ({"store": "yes"}, "store", "must be a boolean, not a string"),
        ({"metadata": "m"}, "metadata", "must be an object"),
        ({"tools": {}}, "tools", "must be a list"),
        ({"tools": [7]}, "tools[0]", "must be an object"),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "is required"),
        ({"tools": [{"type": "custom"}]}, "tools[0].name", "is required"),
        ({"tools": [{"type": "namespace", "tools": []}]}, "tools[0].name", "is required"),
        ({"tools": [{"type": "namespace", "name": "n"}]}, "tools[0].tools", "is required"),
        ({"tools": [{"type": "namespace", "name": "n", "tools": [7]}]}, "tools[0].tools[0]", "an object"),
        (
            {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "function"}]}]},
            "tools[0].tools[0].name",
            "is required",
        ),
        ({"tools": [TOOL], "tool_choice": "any"}, "tool_choice", "must be one of none"),
        ({"tools": [TOOL], "tool_choice": 7}, "tool_choice", "must be a string or an object"),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice.name", "is required"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.tools", "is required"),
    ],
    ids=str,
)
def test_what_is_misshapen_is_named_by_its_path(fields: Body, param: str, message: str):
    error = refusal_of(**fields)
    assert error.param == param
    assert message in error.message
    assert error.code in ("invalid_value", "missing_required_parameter")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "role", "content", "text", "id", "call_id", "name", "output", "format", "effort"]
            ),
            inner
            | st.sampled_from(["message", "input_text", "function_call", "function", "user", "json_schema"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(sorted(READ_FIELDS)), ANYTHING, max_size=4))
def test_any_body_is_a_chat_request_or_an_error_that_names_a_field_of_it(body: Body):
    try:
        check_chat(to_chat(body) | {"model": "auto"})
    except ApiError as error:
        named = str(error.param).partition(".")[0].partition("[")[0]
    else:
        named = "input"
    assert named in READ_FIELDS
