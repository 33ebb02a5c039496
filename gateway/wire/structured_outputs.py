"""Structured outputs: vLLM's `structured_outputs` and the equivalent fields of other servers."""

from typing import Any, Literal, NamedTuple

from routers.plan import Capability

from .body_types import Body
from .parsing.nesting import read_json

Form = Literal["json", "json_object", "choice", "grammar"]


class Constraint(NamedTuple):
    """A constraint that other servers support too. `value` is a schema, None, a list of choices, or a GBNF
    grammar."""

    form: Form
    value: Any


FORM_CAPABILITIES: dict[Form, frozenset[Capability]] = {
    "json": frozenset({"json_schema"}),
    "json_object": frozenset(),
    "choice": frozenset({"grammar"}),
    "grammar": frozenset({"grammar"}),
}


def structured_output_capabilities(body: Body) -> frozenset[Capability]:
    """Return the capabilities that a body's `structured_outputs` requires."""
    if body.get("structured_outputs") is None:
        return frozenset()
    constraint = parse_constraint(body)
    return frozenset({"structured_outputs"}) if constraint is None else FORM_CAPABILITIES[constraint.form]


CONSTRAINING_FORMATS = frozenset({"json_schema", "json_object", "structural_tag"})
"""Types of `response_format` that constrain the answer."""


def is_constrained(body: Body) -> bool:
    """Whether the server masks tokens for this request, because of an answer format or a required tool
    call."""
    if CONSTRAINING_FIELDS.isdisjoint(body):
        return False
    form, choice = body.get("response_format"), body.get("tool_choice")
    return (
        body.get("structured_outputs") is not None
        or (isinstance(form, dict) and form.get("type") in CONSTRAINING_FORMATS)
        or choice == "required"
        or isinstance(choice, dict)
        or _has_strict_tool(body.get("tools"))
    )


CONSTRAINING_FIELDS = frozenset({"structured_outputs", "response_format", "tool_choice", "tools"})


def _has_strict_tool(tools: Any) -> bool:
    """Whether a tool is strict: the server enforces the schema of its arguments, whether or not it is
    called."""
    functions = (
        [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    )
    return any(isinstance(function, dict) and function.get("strict") is True for function in functions)


def parse_constraint(body: Body) -> Constraint | None:
    """Parse `structured_outputs`. None for what only vLLM can perform or reject: regular expressions,
    structural tags, backend options and malformed values."""
    options = body.get("structured_outputs")
    if (
        not isinstance(options, dict)
        or len(option_names := {key for key in options if options[key] is not None}) != 1
    ):
        return None
    form = option_names.pop()
    match form, options[form]:
        case "json", dict(schema):
            return Constraint("json", schema)
        case "json", str(text):
            return _parse_schema(text)
        case "json_object", True:
            return Constraint("json_object", None)
        case "choice", [_, *_] as choices if all(isinstance(choice, str) for choice in choices):
            return Constraint("choice", choices)
        case "grammar", str(grammar) if "::=" in grammar:  # GBNF; vLLM also accepts Lark, which has no ::=
            return Constraint("grammar", grammar)
    return None


def _parse_schema(text: str) -> Constraint | None:
    try:
        schema = read_json(text)
    except ValueError:
        return None
    return Constraint("json", schema) if isinstance(schema, dict) else None


def to_response_format(body: Body) -> Body:
    """Replace `structured_outputs` by OpenAI's `response_format` if that says the same. The schema is marked
    strict: the server enforces or refuses it."""
    constraint = parse_constraint(body)
    if constraint is None or constraint.form not in ("json", "json_object"):
        return body
    form: Body = {"type": "json_object"}
    if constraint.form == "json":
        schema = {"name": "answer", "schema": constraint.value, "strict": True}
        form = {"type": "json_schema", "json_schema": schema}
    return drop_fields(body, "structured_outputs") | {"response_format": form}


def drop_fields(body: Body, *names: str) -> Body:
    return {key: value for key, value in body.items() if key not in names}
