"""Converts tools and tool choices of the Responses API, which are flat, to chat's, which nest the function."""

from typing import Any

from gateway.errors import ApiError, invalid, unsupported
from gateway.wire.body_types import Body
from gateway.wire.validation import check_type

from .fields import optional, required

CHOICES = ("none", "auto", "required")


def read_tool_fields(body: Body) -> Body:
    """Return `tools`, `tool_choice` and `parallel_tool_calls` of the chat request.

    Without a tool, all are left out: chat accepts the other two only with tools. Raises ApiError for a tool that is no
    function.
    """
    tools = optional(body, "tools", list)
    if not tools:
        return {}
    fields: Body = {"tools": [_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools)]}
    if (choice := body.get("tool_choice")) is not None:
        fields["tool_choice"] = _choice(choice)
    if (parallel := optional(body, "parallel_tool_calls", bool)) is not None:
        fields["parallel_tool_calls"] = parallel
    return fields


def _tool(tool: Any, where: str) -> Body:
    check_type(where, tool, dict, "an object")
    if (kind := required(tool, "type", str, where)) != "function":
        raise _refuse_tool(kind, where)
    required(tool, "name", str, where)
    function = {key: value for key, value in tool.items() if key != "type" and value is not None}
    return {"type": "function", "function": function}


def _refuse_tool(kind: str, where: str) -> ApiError:
    return unsupported(
        f"{where}.type", f"{kind!r} is no function, and nothing here runs OpenAI's hosted tools"
    )


def _choice(choice: Any) -> Any:
    if isinstance(choice, str):
        if choice not in CHOICES:
            raise invalid(f"tool_choice must be one of {', '.join(CHOICES)}, not {choice!r}", "tool_choice")
        return choice
    check_type("tool_choice", choice, dict, "a string or an object")
    if required(choice, "type", str, "tool_choice") != "allowed_tools":
        return _to_named_tool(choice, "tool_choice")
    tools = required(choice, "tools", list, "tool_choice")
    named = [_to_named_tool(tool, f"tool_choice.tools[{index}]") for index, tool in enumerate(tools)]
    mode = required(choice, "mode", str, "tool_choice")
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": named}}


def _to_named_tool(tool: Any, where: str) -> Body:
    check_type(where, tool, dict, "an object")
    if (kind := required(tool, "type", str, where)) != "function":
        raise _refuse_tool(kind, where)
    return {"type": "function", "function": {"name": required(tool, "name", str, where)}}
