"""Turns a recorded exchange into a training example in the format of OpenAI's supervised fine-tuning.

A line is `{"messages": [...], "tools": [...], "parallel_tool_calls": ...}`, the last two if the request had
them (OpenAI, API reference, "Chat request input"). Earlier answers of the conversation have `"weight": 0`:
they are read but not learned from, since a record does not say who wrote them.
"""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from policies.records.schema import ExchangeLine
from routers.plan import ToolCall
from routers.reasons import ESCALATIONS
from routers.structure.answer_form import AnswerForm
from routers.structure.flaws import find_flaw

Message = dict[str, Any]
MapText = Callable[[str], str]

CUT_FINISHES = frozenset({"length", "content_filter"})
"""Finish reasons of incomplete answers."""

REASONING = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL)


class LeftOut(Exception):
    """The exchange makes no example. The message is a cause under which such exchanges are counted."""


class Example(NamedTuple):
    """A conversation whose last message is the answer; `id` and `at` are those of the exchange."""

    id: str
    at: float
    messages: list[Message]
    tools: list[Any] | None = None
    parallel_tool_calls: bool | None = None

    @property
    def answer(self) -> Message:
        return self.messages[-1]

    @property
    def prompt(self) -> list[Message]:
        return self.messages[:-1]

    def to_line(self) -> dict[str, Any]:
        line: dict[str, Any] = {"messages": self.messages}
        if self.tools is not None:
            line["tools"] = self.tools
        if self.parallel_tool_calls is not None:
            line["parallel_tool_calls"] = self.parallel_tool_calls
        return line


NOT_ESCALATED = "not escalated"
WITHOUT_CONTENT = "recorded without content"


def to_example(exchange: ExchangeLine, include_all: bool = False) -> Example:
    """Return the example of an escalated exchange, or of any answered exchange if `include_all` is true.

    Raises LeftOut if the exchange makes no example."""
    _check_exchange(exchange)
    if not include_all and not is_escalated(exchange):
        raise LeftOut(NOT_ESCALATED)
    if exchange.content is None:
        raise LeftOut(WITHOUT_CONTENT)
    if exchange.reply is None:
        raise LeftOut("recorded without their answer")
    if _last_finish(exchange) in CUT_FINISHES:
        raise LeftOut("cut off")
    body = exchange.content
    prompt = [_to_message(message) for message in body.get("messages") or ()]
    if not prompt or prompt[-1]["role"] == "assistant":
        raise LeftOut("answers that the request had begun")
    reply = _to_reply(exchange.reply)
    _check_form(reply, exchange.reply.get("refusal"), body)
    tools = body.get("tools") or None
    parallel = body.get("parallel_tool_calls") if tools else None
    return Example(exchange.id, exchange.at, [*prompt, reply], tools, parallel)


def is_escalated(exchange: ExchangeLine) -> bool:
    """True if the large model wrote the answer, or finished it after the small model's draft was given up."""
    answer = exchange.answer
    assert answer is not None  # noqa: S101  asked of answered exchanges
    return answer.route == "llm" or (answer.route != "slm" and answer.reason in ESCALATIONS)


def _check_exchange(exchange: ExchangeLine) -> None:
    if exchange.endpoint not in ("chat", "responses"):
        raise LeftOut("of other endpoints than chat and responses")
    if exchange.shadow_of is not None:
        raise LeftOut("shadows")
    if exchange.status != 200 or exchange.answer is None or exchange.cancelled:
        raise LeftOut("not answered")


def _last_finish(exchange: ExchangeLine) -> str | None:
    """Return the finish reason of the model that wrote the end of the answer."""
    assert exchange.answer is not None  # noqa: S101  checked before
    tier = exchange.answer.route.rpartition("+")[2]
    calls = [call for call in exchange.calls if call.ask == "generate" and call.tier == tier and call.finish]
    return calls[-1].finish if calls else None


def _to_message(source: Message) -> Message:
    """Return a request's message with the format's fields only, without a speaker's name. Raises LeftOut."""
    role = "system" if source["role"] == "developer" else source["role"]
    if role == "assistant":
        return {**_to_answer(source), "weight": 0}
    if role not in ("system", "user", "tool"):
        raise LeftOut("with messages of another kind")
    message = {"role": role, "content": _to_text(source.get("content"))}
    if role == "tool":
        message["tool_call_id"] = source.get("tool_call_id") or ""
    return message


def _to_reply(source: Message) -> Message:
    """Return the answer's message without the reasoning in its text. Raises LeftOut."""
    answer = _to_answer(source)
    if "content" in answer:
        answer["content"] = REASONING.sub("", answer["content"], count=1)
    return answer


def _to_answer(source: Message) -> Message:
    answer: Message = {"role": "assistant"}
    if text := _to_text(source.get("content")):
        answer["content"] = text
    if calls := source.get("tool_calls"):
        answer["tool_calls"] = [_to_call(call) for call in calls]
    if len(answer) == 1:
        answer["content"] = ""
    return answer


def _to_call(call: Any) -> Message:
    match call:
        case {"id": str(id_), "function": {"name": str(name), "arguments": str(arguments)}}:
            function = {"name": name, "arguments": arguments}
            return {"id": id_, "type": "function", "function": function}
    raise LeftOut("with tools of another kind")


def _to_text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    texts = [part["text"] for part in content if part.get("type") == "text"]
    if len(texts) < len(content):
        raise LeftOut("not text alone")
    return "\n".join(texts)


def _check_form(reply: Message, refusal: Any, body: dict[str, Any]) -> None:
    """Raise LeftOut if the gateway would not have accepted this answer from the small model."""
    calls = [
        ToolCall(call["function"]["name"], call["function"]["arguments"])
        for call in reply.get("tool_calls", ())
    ]
    problem = find_flaw(reply.get("content", ""), calls, "stop", AnswerForm.from_body(body), refusal or None)
    if problem is not None:
        raise LeftOut(f"flawed answers ({problem})")
    if any(tool.get("type") != "function" for tool in body.get("tools") or ()):
        raise LeftOut("with tools of another kind")


def list_texts(example: Example) -> list[str]:
    """Return all texts of the example in order: contents, and the strings in tool calls' arguments."""
    texts: list[str] = []

    def collect(text: str) -> str:
        texts.append(text)
        return text

    _map_messages(example.messages, collect)
    return texts


def replace_texts(example: Example, texts: list[str]) -> Example:
    """Return the example with `texts` in place of those that `list_texts` returns."""
    remaining = iter(texts)
    return example._replace(messages=_map_messages(example.messages, lambda _: next(remaining)))


def _map_messages(messages: list[Message], change: MapText) -> list[Message]:
    return [_map_message(message, change) for message in messages]


def _map_message(message: Message, change: MapText) -> Message:
    mapped = dict(message)
    if "content" in mapped:
        mapped["content"] = change(mapped["content"])
    if "tool_calls" in mapped:
        mapped["tool_calls"] = [_map_call(call, change) for call in mapped["tool_calls"]]
    return mapped


def _map_call(call: Message, change: MapText) -> Message:
    function = call["function"]
    try:
        arguments = json.dumps(_map_value(json.loads(function["arguments"]), change), ensure_ascii=False)
    except ValueError:
        arguments = change(function["arguments"])
    return {**call, "function": {**function, "arguments": arguments}}


def _map_value(value: Any, change: MapText) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_map_value(each, change) for each in value]
    if isinstance(value, dict):
        return {key: _map_value(each, change) for key, each in value.items()}
    return value
