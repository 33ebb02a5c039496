"""Converts tools and tool choices of the Responses API, which are flat, to chat's, which nest the function.

Tools in a namespace become tools beside the others. Tools that somebody else would have to run are left out, unless
the request demands that one be called.
"""

import re
from collections.abc import Iterator
from typing import Any

from gateway.errors import ApiError, invalid, unsupported
from gateway.wire.body_types import Body
from gateway.wire.validation import check_type

from .fields import optional, required
from .tool_names import ToolNames

CHOICES = ("none", "auto", "required")

MAX_LEFT_OUT = 16
"""Most kinds of tools that are said to be left out."""

RESPONSES_FIELDS = frozenset(("type", "allowed_callers", "async", "defer_loading", "output_schema"))
"""Fields of a tool that chat's tools do not have, or have elsewhere."""


def read_tool_fields(body: Body, names: ToolNames) -> Body:
    """Return `tools`, `tool_choice` and `parallel_tool_calls` of the chat request.

    Without a tool, all are left out: chat accepts the other two only with tools. Raises ApiError if a tool must be
    called that nobody here can run.
    """
    tools = list(
        _list_tools(optional(body, "tools", list) or (), names, body.get("tool_choice") == "required")
    )
    choice = body.get("tool_choice")
    fields: Body = {"tools": tools}
    if body.get("tools") and choice is not None:
        fields["tool_choice"] = _choice(choice, names)
    if (parallel := optional(body, "parallel_tool_calls", bool)) is not None:
        fields["parallel_tool_calls"] = parallel
    return fields if tools else {}


def list_left_out(body: Body) -> list[str]:
    """Return the kinds of a checked body's tools that are left out, with no other characters than a header's may be."""
    kinds = [
        str(tool["type"]) for _, tool, _ in _walk_tools(body.get("tools") or ()) if tool["type"] not in TOOLS
    ]
    return list(dict.fromkeys(re.sub(r"[^a-zA-Z0-9_.-]", "_", kind)[:64] for kind in kinds))[:MAX_LEFT_OUT]


def _walk_tools(tools: Any) -> Iterator[tuple[str, Body, Body | None]]:
    """Yield each tool with its path, and the namespace that it is in. Raises ApiError for a malformed one."""
    for index, tool in enumerate(tools):
        where = f"tools[{index}]"
        check_type(where, tool, dict, "an object")
        if required(tool, "type", str, where) != "namespace":
            yield where, tool, None
            continue
        required(tool, "name", str, where)
        for place, inner in enumerate(required(tool, "tools", list, where)):
            at = f"{where}.tools[{place}]"
            check_type(at, inner, dict, "an object")
            required(inner, "type", str, at)
            yield at, inner, tool


def _list_tools(tools: Any, names: ToolNames, must_call: bool) -> Iterator[Body]:
    for where, tool, namespace in _walk_tools(tools):
        if tool["type"] not in TOOLS:
            if must_call:
                raise _refuse_tool(tool["type"], where)
            continue
        name = required(tool, "name", str, where)
        given = {
            key: value for key, value in tool.items() if key not in RESPONSES_FIELDS and value is not None
        }
        if namespace is not None:
            given["name"] = names.to_chat(name, namespace["name"])
            given.setdefault("description", namespace.get("description") or "")
        yield TOOLS[tool["type"]](given)


def _to_function(tool: Body) -> Body:
    return {"type": "function", "function": tool}


def _to_custom(tool: Body) -> Body:
    form = tool.get("format")
    if isinstance(form, dict) and form.get("type") == "grammar":
        grammar = {key: value for key, value in form.items() if key != "type"}
        tool["format"] = {"type": "grammar", "grammar": grammar}
    return {"type": "custom", "custom": tool}


TOOLS = {"function": _to_function, "custom": _to_custom}
"""The kinds of tools that the client runs. Chat has them too."""


def _refuse_tool(kind: str, where: str) -> ApiError:
    what = f"{kind!r} is neither a function nor a custom tool, and nothing here runs OpenAI's hosted tools"
    return unsupported(f"{where}.type", what)


def _choice(choice: Any, names: ToolNames) -> Any:
    if isinstance(choice, str):
        if choice not in CHOICES:
            raise invalid(f"tool_choice must be one of {', '.join(CHOICES)}, not {choice!r}", "tool_choice")
        return choice
    check_type("tool_choice", choice, dict, "a string or an object")
    if required(choice, "type", str, "tool_choice") != "allowed_tools":
        return _to_named_tool(choice, "tool_choice", names)
    return _allowed_tools(choice, names)


def _allowed_tools(choice: Body, names: ToolNames) -> Any:
    """Return chat's choice among some tools. What is left out of the tools is left out here, if none must be called."""
    tools = required(choice, "tools", list, "tool_choice")
    mode = required(choice, "mode", str, "tool_choice")
    named = []
    for index, tool in enumerate(tools):
        where = f"tool_choice.tools[{index}]"
        check_type(where, tool, dict, "an object")
        if mode == "required" or required(tool, "type", str, where) in TOOLS:
            named.append(_to_named_tool(tool, where, names))
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": named}} if named else "none"


def _to_named_tool(tool: Body, where: str, names: ToolNames) -> Body:
    if (kind := required(tool, "type", str, where)) not in TOOLS:
        raise _refuse_tool(kind, where)
    name = names.to_chat(required(tool, "name", str, where), tool.get("namespace"))
    return {"type": kind, kind: {"name": name}}
