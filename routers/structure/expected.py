"""Structural reasons why a finished draft can't be served: JSON, schemas, tool calls, loops, refusals.

The request itself says what form its answer must have, in the fields of OpenAI's chat and completions endpoints
and of vLLM's `structured_outputs`. A form that can't be read is not demanded: the upstream judges the request.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Never

from routers.plan import Reason, ToolCall

from .schemas import meets

Schema = Mapping[str, Any]
Tool = tuple[str, Schema | None]

FORMS = frozenset(("response_format", "structured_outputs", "tools", "functions"))
"""The fields of a request that ask for a form."""
ANYTHING: Schema = {}
ANY_OBJECT: Schema = {"type": "object"}


@dataclass(frozen=True, slots=True)
class Expected:
    """What a request asks of its answer's form."""

    value: Schema | None = None
    """What the text must meet, read as JSON; None: it need not be JSON."""
    literal: Schema | None = None
    """What the text must meet as the string it is."""
    tools: Mapping[str, Schema | None] = field(default_factory=dict)
    """The tools that may be called, and what each one's arguments must meet; None: they are free text."""
    others: bool = False
    """Whether tools may be called whose names could not be read."""
    required: bool = False
    """Whether a tool must be called."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Expected":
        """What the body of a request asks for; the same object for all that ask for nothing. Never raises."""
        if FORMS.isdisjoint(body):
            return PLAIN
        tools, others, required = _tools(body)
        return cls(_value(body), _literal(body), tools, others, required)

    @property
    def whole(self) -> bool:
        """Whether only a complete answer can be checked, and so no beginning may be served before."""
        return self.value is not None or self.literal is not None or bool(self.tools) or self.others


PLAIN = Expected()


def _value(body: Mapping[str, Any]) -> Schema | None:
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
            return _schema_in(text)
        case {"json_object": True}:
            return ANY_OBJECT
    return None


def _schema_in(text: str) -> Schema:
    try:
        schema = parsed(text)
    except ValueError:
        return ANYTHING
    return schema if isinstance(schema, dict) else ANYTHING


def _literal(body: Mapping[str, Any]) -> Schema | None:
    match body.get("structured_outputs"):
        case {"choice": [_, *_] as choices}:
            return {"enum": choices}
        case {"regex": str(regex)}:
            return {"pattern": f"^(?:{regex})$"}
    return None


def _tools(body: Mapping[str, Any]) -> tuple[dict[str, Schema | None], bool, bool]:
    """The tools that may be called, whether others may, and whether one must be."""
    choice = body.get("tool_choice") or body.get("function_call")
    offered = [_tool(each) for key in ("tools", "functions") for each in _listed(body.get(key))]
    if choice == "none" or not offered:
        return {}, False, False
    readable = dict(tool for tool in offered if tool)
    others = None in offered
    names, required = _chosen(choice)
    if names is None:
        return readable, others, required
    chosen = {name: readable[name] for name in names if name in readable}
    if len(chosen) < len(names):
        return readable, others, False
    return chosen, False, required


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _tool(tool: Any) -> Tool | None:
    """A tool's name and what its arguments must meet; None where it is of an unknown kind."""
    match tool:
        case {"custom": {"name": str(name)}}:
            return name, None
        case {"function": {"name": str(name)} as function} | ({"name": str(name)} as function):
            parameters = function.get("parameters")
            return name, parameters if isinstance(parameters, dict) else ANYTHING
    return None


def _chosen(choice: Any) -> tuple[set[str] | None, bool]:
    """The names that the tool choice restricts calls to (None: it does not), and whether it requires a call."""
    match choice:
        case "required":
            return None, True
        case {"type": "allowed_tools", "allowed_tools": {"tools": [_, *_] as allowed} as restriction}:
            tools = [_tool(each) for each in allowed]
            names = None if None in tools else {tool[0] for tool in tools if tool}
            return names, restriction.get("mode") == "required"
        case {"function": {"name": str(name)}} | {"custom": {"name": str(name)}} | {"name": str(name)}:
            return {name}, True
    return None, False


def flaw(
    text: str, calls: Sequence[ToolCall], finish: str | None, expected: Expected, refusal: str | None = None
) -> Reason | None:
    """The first reason why a finished draft can't be served, None where there is none.

    In this order: REFUSAL, EMPTY, TRUNCATED, TOOL_NOT_OFFERED, TOOL_ARGUMENTS, INVALID_JSON, SCHEMA_MISMATCH.
    Free text that reached its token limit is not flawed: clients set `max_tokens` to have it cut. A draft that
    calls tools is judged by its calls, and its text, if any, by nothing. (LOOP needs tokens: see `looping`.)
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


LONGEST_INTEGER = 640
"""Digits that Python converts to an integer however it is set up; longer ones are read as floats."""


def parsed(text: str) -> Any:
    """The value of a JSON text (RFC 8259). Raises ValueError where it is none, or is nested too deeply: NaN and
    Infinity are none, and neither is JSON in a fence."""
    try:
        return json.loads(text, parse_int=_integer, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= LONGEST_INTEGER else float(digits)


def _no_number(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")


_UNABLE = r"(?:i(?:'m| am) (?:unable|not able) to|i (?:can't|cannot|can not|won't|will not))"
_SORRY = (
    r"(?:(?:i'm|i am) (?:so |very |really |truly )?sorry|sorry|i apologi[sz]e|my apologies|unfortunately)"
    r"(?: (?:for|about) [^.,;!?]{1,40})?[.,;!]? ?(?:but |however,? )?"
)
_NO_TURN = r"(?!.*\b(?:but|however|nevertheless|nonetheless|that said)\b)"
_FLATLY = (
    r"(?:help|assist)(?: you)?(?: with\b| in\b|[.,;!]|$)"
    r"|(?:comply|do that)(?:[.,;!]|$)|comply with\b"
    r"|(?:answer|complete|fulfil|fulfill|process|respond to) (?:that|this|your|the|such) (?:\w+ )?"
    r"(?:question|query|prompt|request)\b"
    r"|(?:create|generate|produce|write) (?:\w+ ){0,2}content\b"
    rf"|provide (?:\w+ ){{0,3}}(?:advice|assistance|guidance|information|instructions)\b{_NO_TURN}"
)
_AS_AN_AI = (
    r"as an? (?:[\w-]+ ){0,3}(?:ai|assistant|chatbot|language model)\b[^.;!?]{0,80}?, ?"
    rf"(?:{_UNABLE}|i (?:don't|do not) have (?:the )?(?:ability|access|capability))\b{_NO_TURN}"
)
_REFUSAL = re.compile(rf"[\s*_#>]*(?:{_SORRY})?(?:{_AS_AN_AI}|{_UNABLE} (?:{_FLATLY}))", re.DOTALL)


def refuses(text: str) -> bool:
    """Whether a text begins as English refusals begin: "I'm sorry, but I can't help with that."

    An apology alone is none, nor is "I can't": what can't be done must be to help, to answer or to write on, or
    it is an AI that speaks of itself; and where models may only hedge before they answer, no "but" may follow.
    Openings as short as "I'm sorry" and "I cannot", by which Zou et al. (arXiv 2307.15043) tell refusals, are
    many an answer's too.
    """
    return _REFUSAL.match(text[:300].lower().replace("’", "'")) is not None


LONGEST_BLOCK = 64
TIMES = 6
COVER = 48
TAIL = LONGEST_BLOCK * TIMES
FEW = 4
VARIED = 0.8


def looping(texts: Sequence[str]) -> bool:
    """Whether the tail of a draft's tokens is one block, again and again.

    The block has at most 64 tokens, and its repetition fills at least six times its length and 48 tokens. A
    monotonous block must fill the whole tail that is looked at, 384 tokens: one of fewer than 4 different
    tokens, or where a fifth of the tokens or more stood in it before. Rows of zeros, rules, empty tables and
    boards are monotonous; a sentence that a small model can't leave is not. Only the equality of tokens counts,
    and the cost is linear in the tail.
    """
    if len(texts) < COVER:
        return False
    tail = texts[: -TAIL - 1 : -1]
    return any(_repeats(tail, period, agreed) for period, agreed in _agreements(tail))


def stuck(texts: Sequence[str]) -> bool:
    """Whether a draft has been looping for so long that nobody can have asked for it: all of the tail that `looping`
    looks at is one block again and again, however monotonous."""
    tail = texts[: -TAIL - 1 : -1]
    return len(tail) == TAIL and any(period + agreed == TAIL for period, agreed in _agreements(tail))


def _repeats(tail: Sequence[str], period: int, agreed: int) -> bool:
    cover = period + agreed
    if cover < max(COVER, TIMES * period):
        return False
    different = len(set(tail[:period]))
    return cover == TAIL or (different >= FEW and different > VARIED * period)


def _agreements(tail: Sequence[str]) -> Iterator[tuple[int, int]]:
    """How far `tail` agrees with itself when it is moved by each length that a block may have.

    The Z algorithm (Gusfield, "Algorithms on Strings, Trees, and Sequences", 1997, section 1.4).
    """
    agreed = [0]
    left = right = 0
    for period in range(1, min(LONGEST_BLOCK + 1, len(tail))):
        length = min(right - period, agreed[period - left]) if period < right else 0
        while period + length < len(tail) and tail[length] == tail[period + length]:
            length += 1
        agreed.append(length)
        if period + length > right:
            left, right = period, period + length
        yield period, length
