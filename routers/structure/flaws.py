"""Structural flaws of a finished draft: refusals, empty text, truncation, tool calls, JSON and schemas."""

from collections.abc import Sequence

from routers.plan import Reason, ToolCall

from .answer_form import AnswerForm
from .json_text import parse_json
from .refusals import is_refusal
from .schemas import meets_schema


def find_flaw(
    text: str, calls: Sequence[ToolCall], finish: str | None, form: AnswerForm, refusal: str | None = None
) -> Reason | None:
    """Return the first reason why a finished draft can't be served, or None.

    The order is REFUSAL, EMPTY, TRUNCATED, TOOL_NOT_OFFERED, TOOL_ARGUMENTS, INVALID_JSON, SCHEMA_MISMATCH.
    Free text that reached its token limit has no flaw, since clients set `max_tokens` to cut it. If a draft
    calls tools, only its calls are checked, not its text. LOOP needs tokens: see `is_looping`.
    """
    if refusal or (not calls and is_refusal(text)):
        return Reason.REFUSAL
    if not calls and not text.strip():
        return Reason.EMPTY
    if finish == "length" and form.needs_complete_answer:
        return Reason.TRUNCATED
    if calls:
        return next((reason for call in calls if (reason := _find_flaw_of_call(call, form))), None)
    return Reason.TOOL_NOT_OFFERED if form.requires_tool else _find_flaw_of_text(text, form)


def _find_flaw_of_call(call: ToolCall, form: AnswerForm) -> Reason | None:
    if call.name not in form.tools:
        return None if form.allows_other_tools else Reason.TOOL_NOT_OFFERED
    schema = form.tools[call.name]
    if schema is None:
        return None
    try:
        arguments = parse_json(call.arguments)
    except ValueError:
        return Reason.TOOL_ARGUMENTS
    fits = isinstance(arguments, dict) and meets_schema(schema, arguments)
    return None if fits else Reason.TOOL_ARGUMENTS


def _find_flaw_of_text(text: str, form: AnswerForm) -> Reason | None:
    if form.text_schema is not None and not meets_schema(form.text_schema, text):
        return Reason.SCHEMA_MISMATCH
    if form.json_schema is None:
        return None
    try:
        value = parse_json(text)
    except ValueError:
        return Reason.INVALID_JSON
    return None if meets_schema(form.json_schema, value) else Reason.SCHEMA_MISMATCH
