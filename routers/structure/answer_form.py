"""The form that a request demands of its answer: JSON, a schema, a pattern or tool calls.

A request states it in the fields of OpenAI's chat and completions endpoints and in vLLM's
`structured_outputs`. A form that can't be read is not demanded: the upstream judges the request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .json_text import parse_json

Schema = Mapping[str, Any]
Tool = tuple[str, Schema | None]

FORM_FIELDS = frozenset(("response_format", "structured_outputs", "tools", "functions"))
"""The request fields that demand a form."""
ANYTHING: Schema = {}
ANY_OBJECT: Schema = {"type": "object"}


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """The form that a request demands of its answer."""

    json_schema: Schema | None = None
    """The schema of the text, parsed as JSON. None if the text need not be JSON."""
    text_schema: Schema | None = None
    """The schema of the text as a string (a choice or a pattern), or None."""
    tools: Mapping[str, Schema | None] = field(default_factory=dict)
    """The tools that may be called, each with its arguments' schema, or None if its input is free text."""
    allows_other_tools: bool = False
    """True if tools may be called whose names could not be read."""
    requires_tool: bool = False
    """True if a tool must be called."""

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> "AnswerForm":
        """Return the form that a request body demands. Never raises. Without one, returns `ANY_FORM`."""
        if FORM_FIELDS.isdisjoint(body):
            return ANY_FORM
        tools, others, required = _read_tools(body)
        return cls(_read_json_schema(body), _read_text_schema(body), tools, others, required)

    @property
    def needs_complete_answer(self) -> bool:
        """True if only a complete answer can be checked. No part of a draft is then served before its end."""
        return (
            self.json_schema is not None
            or self.text_schema is not None
            or bool(self.tools)
            or self.allows_other_tools
        )


ANY_FORM = AnswerForm()


def _read_json_schema(body: Mapping[str, Any]) -> Schema | None:
    match body.get("response_format"):
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return schema
        case {"type": "json_schema"}:
            return ANYTHING
        case {"type": "json_object", "schema": dict(schema)}:  # llama.cpp's
            return schema
        case {"type": "json_object"}:
            return ANY_OBJECT
    match body.get("structured_outputs"):
        case {"json": dict(schema)}:
            return schema
        case {"json": str(text)}:
            return _parse_schema(text)
        case {"json_object": True}:
            return ANY_OBJECT
    return None


def _parse_schema(text: str) -> Schema:
    try:
        schema = parse_json(text)
    except ValueError:
        return ANYTHING
    return schema if isinstance(schema, dict) else ANYTHING


def _read_text_schema(body: Mapping[str, Any]) -> Schema | None:
    match body.get("structured_outputs"):
        case {"choice": [_, *_] as choices}:
            return {"enum": choices}
        case {"regex": str(regex)}:
            return {"pattern": f"^(?:{regex})$"}
    return None


def _read_tools(body: Mapping[str, Any]) -> tuple[dict[str, Schema | None], bool, bool]:
    """Return the tools that may be called, whether unreadable ones may be, and whether one must be."""
    choice = body.get("tool_choice") or body.get("function_call")
    offered_tools = [_read_tool(each) for key in ("tools", "functions") for each in _as_list(body.get(key))]
    if choice == "none" or not offered_tools:
        return {}, False, False
    readable_tools = dict(tool for tool in offered_tools if tool)
    has_unreadable = None in offered_tools
    names, required = _read_tool_choice(choice)
    if names is None:
        return readable_tools, has_unreadable, required
    chosen_tools = {name: readable_tools[name] for name in names if name in readable_tools}
    if len(chosen_tools) < len(names):
        return readable_tools, has_unreadable, False
    return chosen_tools, False, required


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _read_tool(tool: Any) -> Tool | None:
    """Return a tool's name and its arguments' schema, or None if the tool is of an unknown kind."""
    match tool:
        case {"custom": {"name": str(name)}}:
            return name, None
        case {"function": {"name": str(name)} as function} | ({"name": str(name)} as function):
            parameters = function.get("parameters")
            return name, parameters if isinstance(parameters, dict) else ANYTHING
    return None


def _read_tool_choice(choice: Any) -> tuple[set[str] | None, bool]:
    """Return the names that a tool choice allows (None: all), and whether it requires a call."""
    match choice:
        case "required":
            return None, True
        case {"type": "allowed_tools", "allowed_tools": {"tools": [_, *_] as allowed} as restriction}:
            tools = [_read_tool(each) for each in allowed]
            names = None if None in tools else {tool[0] for tool in tools if tool}
            return names, restriction.get("mode") == "required"
        case {"function": {"name": str(name)}} | {"custom": {"name": str(name)}} | {"name": str(name)}:
            return {name}, True
    return None, False
