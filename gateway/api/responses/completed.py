"""Converts a chat completion to a response object, which repeats fields of the request.

OpenAI, API reference, "The response object"; fields as in the official client's `Response`.
"""

from gateway.wire.body_types import Body
from gateway.wire.parsing.usage_fields import COMPLETION_DETAILS, PROMPT_DETAILS, parse_usage, read_detail

from . import output
from .tool_names import ToolNames

INCOMPLETE_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""The reason of an incomplete response, by chat's finish reason of an answer that was cut off."""

ECHOED_FIELDS: Body = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "service_tier": None,
    "store": True,
    "temperature": None,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "user": None,
}
"""Request fields that a response repeats, and their defaults."""

ABSENT_FIELDS: Body = {
    "background": False,
    "conversation": None,
    "prompt": None,
    "truncation": "disabled",
}
"""Fields of a response for features that the gateway does not offer; the request does not change them."""


def to_response(completion: Body, request: Body, response_id: str) -> Body:
    """Convert a chat completion to the response for the /v1/responses body `request`.

    `response_id` begins with `resp_`; the ids of the items derive from it. A key `smallfirst` is copied.
    """
    choice = completion["choices"][0]
    finish = choice.get("finish_reason")
    response = start_response(request, response_id, completion.get("created") or 0)
    names = ToolNames(request.get("tools"))
    items = _to_output(choice, response_id, names, cut=finish in INCOMPLETE_REASONS)
    return finish_response(response, completion, finish, items)


def start_response(request: Body, response_id: str, created_at: int) -> Body:
    """Return the response before its first output. `created_at` is in seconds since 1970."""
    repeated = {key: request[key] for key in ECHOED_FIELDS if request.get(key) is not None}
    return {
        "id": response_id,
        "object": "response",
        "created_at": created_at,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": request["model"],
        "output": [],
        "usage": None,
        **ABSENT_FIELDS,
        **ECHOED_FIELDS,
        **repeated,
        "reasoning": {"effort": None, "summary": None} | (request.get("reasoning") or {}),
        "text": {"format": {"type": "text"}} | (request.get("text") or {}),
    }


def finish_response(response: Body, completion: Body, finish: str | None, items: list[Body]) -> Body:
    """Return the finished response. Only what is beside the choices of the chat `completion` is read."""
    reason = INCOMPLETE_REASONS.get(finish or "")
    own = {"smallfirst": completion["smallfirst"]} if "smallfirst" in completion else {}
    return {
        **response,
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "model": completion.get("model") or response["model"],
        "output": items,
        "usage": _to_usage(completion.get("usage")),
        "service_tier": completion.get("service_tier") or response["service_tier"],
        **own,
    }


def _to_output(choice: Body, response_id: str, names: ToolNames, *, cut: bool) -> list[Body]:
    """Return the output items: reasoning, message, tool calls. An answer without any becomes an empty message."""
    answer = choice["message"]
    texts = dict(output.list_texts(answer))
    calls = answer.get("tool_calls") or []
    reasoning = texts.pop("reasoning_text", None)
    if reasoning is None and not texts and not calls:
        texts["output_text"] = ""
    items = []
    if reasoning is not None:
        part = output.part("reasoning_text", reasoning, [])
        items.append(output.reasoning(response_id, 0, [part], _to_status(cut and not texts and not calls)))
    if texts:
        logprobs = output.list_logprobs(choice)
        parts = [output.part(kind, text, logprobs) for kind, text in texts.items()]
        items.append(output.message(response_id, 0, parts, _to_status(cut and not calls)))
    return items + _to_calls(calls, response_id, names, cut=cut)


def _to_status(cut: bool) -> output.Status:
    return "incomplete" if cut else "completed"


def _to_calls(calls: list[Body], response_id: str, names: ToolNames, *, cut: bool) -> list[Body]:
    items: list[Body] = []
    for tool_call in calls:
        text = output.call_text(tool_call)
        place = sum(item["type"] == output.call_kind(tool_call) for item in items)
        status = output.call_status(text, cut=cut)
        items.append(output.call(response_id, place, tool_call, text, status, names))
    return items


def _to_usage(usage: Body | None) -> Body | None:
    if not usage or not isinstance(usage, dict):
        return None
    reported = parse_usage(usage)
    prompt, completion = reported.prompt_tokens or 0, reported.completion_tokens or 0
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": reported.cached_tokens,
            "cache_write_tokens": read_detail(usage, PROMPT_DETAILS, "cache_write_tokens"),
        },
        "output_tokens": completion,
        "output_tokens_details": {
            "reasoning_tokens": read_detail(usage, COMPLETION_DETAILS, "reasoning_tokens")
        },
        "total_tokens": prompt + completion,
    }
