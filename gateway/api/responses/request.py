"""Converts the body of POST /v1/responses to the body of a chat completion.

OpenAI, API reference, "Create a model response" and "Create chat completion"; fields as in the official client's
`ResponseCreateParams` and `CompletionCreateParams`.
"""

from collections.abc import Sequence

from gateway.errors import invalid, unsupported
from gateway.wire.body_types import Body

from .fields import optional, required
from .messages import read_messages
from .tool_names import ToolNames
from .tools import read_tool_fields

REFUSED_FIELDS = {
    "conversation": "no conversation is stored here: send all of it as input",
    "prompt": "prompt templates are stored at OpenAI: send the text as instructions and input",
    "background": "nothing answers here once its client has left: wait for the response, or stream it",
}
"""Fields that need state which is not kept here; why each is refused, and what to do instead."""

READ_FIELDS = frozenset(
    (
        "client_metadata",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "parallel_tool_calls",
        "previous_response_id",
        "reasoning",
        "store",
        "stream_options",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "truncation",
        *REFUSED_FIELDS,
    )
)
"""Fields that chat has under another name or not at all. They are not passed through.

The gateway does not obey `truncation`; the response says so. `metadata` is only repeated in the response: chat refuses
it for completions that are not stored. `client_metadata` is Codex's.
"""

LOGPROBS = "message.output_text.logprobs"


def to_chat(body: Body, earlier: Sequence[Body] = ()) -> Body:
    """Return the chat request for a /v1/responses body. Fields of both APIs, and of neither, pass through.

    `earlier` holds the items of the turns before. Raises ApiError that names the path for a value of a wrong type, and
    for what needs other state or a hosted tool.
    """
    for key, why in REFUSED_FIELDS.items():
        if body.get(key):
            raise unsupported(key, why)
    optional(body, "metadata", dict)  # the response repeats it
    optional(body, "store", bool)
    names = ToolNames(body.get("tools"))
    return {
        **{key: value for key, value in body.items() if key not in READ_FIELDS},
        "messages": [*_instructions(body), *read_messages(body.get("input"), earlier, names)],
        **_length(body),
        **_stream(body),
        **_reasoning(body),
        **_text(body),
        **_logprobs(body),
        **read_tool_fields(body, names),
    }


def _instructions(body: Body) -> list[Body]:
    text = optional(body, "instructions", str)
    return [{"role": "system", "content": text}] if text else []


def _length(body: Body) -> Body:
    max_tokens = optional(body, "max_output_tokens", int)
    return {} if max_tokens is None else {"max_completion_tokens": max_tokens}


def _stream(body: Body) -> Body:
    """Return the stream fields. They always ask for usage, which the last event of a response holds."""
    options = optional(body, "stream_options", dict) or {}
    return {"stream_options": options | {"include_usage": True}} if optional(body, "stream", bool) else {}


def _reasoning(body: Body) -> Body:
    effort = optional(optional(body, "reasoning", dict) or {}, "effort", str, "reasoning")
    return {} if effort is None else {"reasoning_effort": effort}


def _text(body: Body) -> Body:
    text = optional(body, "text", dict) or {}
    verbosity = optional(text, "verbosity", str, "text")
    form = optional(text, "format", dict, "text")
    fields: Body = {} if verbosity is None else {"verbosity": verbosity}
    if form is not None and (response_format := _format(form)) is not None:
        fields["response_format"] = response_format
    return fields


def _format(form: Body) -> Body | None:
    """Return chat's `response_format`; None for plain text, which is its default."""
    kind = required(form, "type", str, "text.format")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": kind}
    if kind != "json_schema":
        known = "text, json_object, json_schema"
        raise invalid(f"text.format.type must be one of {known}, not {kind!r}", "text.format.type")
    required(form, "name", str, "text.format")
    required(form, "schema", dict, "text.format")
    return {"type": kind, kind: {key: value for key, value in form.items() if key != "type"}}


def _logprobs(body: Body) -> Body:
    alternatives = optional(body, "top_logprobs", int)
    if LOGPROBS not in (optional(body, "include", list) or ()):
        return {}
    return {"logprobs": True} if alternatives is None else {"logprobs": True, "top_logprobs": alternatives}
