"""Structural flaws of a finished draft: refusals, empty text, truncation, tool calls, JSON and schemas."""

from collections.abc import Sequence

from routers.plan import Reason, ToolCall

from .expected import Expected
from .json_text import parsed
from .refusals import refuses
from .schemas import meets


def flaw(
    text: str, calls: Sequence[ToolCall], finish: str | None, expected: Expected, refusal: str | None = None
) -> Reason | None:
    """Return the first reason why a finished draft can't be served, or None.

    The order is REFUSAL, EMPTY, TRUNCATED, TOOL_NOT_OFFERED, TOOL_ARGUMENTS, INVALID_JSON, SCHEMA_MISMATCH.
    Free text that reached its token limit has no flaw, since clients set `max_tokens` to cut it. If a draft
    calls tools, only its calls are checked, not its text. LOOP needs tokens: see `is_looping`.
    """
    if refusal or (not calls and refuses(text)):
        return Reason.REFUSAL
    if not calls and not text.strip():
        return Reason.EMPTY
    if finish == "length" and expected.whole:
        return Reason.TRUNCATED
    if calls:
        return next((reason for call in calls if (reason := _flaw_of_call(call, expected))), None)
    return Reason.TOOL_NOT_OFFERED if expected.required else _flaw_of_text(text, expected)


def _flaw_of_call(call: ToolCall, expected: Expected) -> Reason | None:
    if call.name not in expected.tools:
        return None if expected.others else Reason.TOOL_NOT_OFFERED
    schema = expected.tools[call.name]
    if schema is None:
        return None
    try:
        arguments = parsed(call.arguments)
    except ValueError:
        return Reason.TOOL_ARGUMENTS
    fits = isinstance(arguments, dict) and meets(schema, arguments)
    return None if fits else Reason.TOOL_ARGUMENTS


def _flaw_of_text(text: str, expected: Expected) -> Reason | None:
    if expected.literal is not None and not meets(expected.literal, text):
        return Reason.SCHEMA_MISMATCH
    if expected.value is None:
        return None
    try:
        value = parsed(text)
    except ValueError:
        return Reason.INVALID_JSON
    return None if meets(expected.value, value) else Reason.SCHEMA_MISMATCH
