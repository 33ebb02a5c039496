"""Converts the texts and calls of a chat message to output items and content parts of the Responses API."""

from collections.abc import Iterator
from typing import Literal

from gateway.wire.body_types import Body
from gateway.wire.chunks.tool_calls import is_complete_json_object

from .tool_names import ToolNames

Status = Literal["in_progress", "completed", "incomplete"]
CallKind = Literal["function_call", "custom_tool_call"]
Kind = Literal["reasoning", "message"] | CallKind

_PREFIX: dict[Kind, str] = {
    "reasoning": "rs",
    "message": "msg",
    "function_call": "fc",
    "custom_tool_call": "ctc",
}


def list_texts(message: Body) -> Iterator[tuple[str, str]]:
    """Return the texts of a chat message or of a chunk's delta, each after its content part's type.

    OpenAI has no field for reasoning: vLLM, llama.cpp and DeepSeek call it `reasoning_content`, OpenRouter `reasoning`.
    """
    texts = {
        "reasoning_text": message.get("reasoning_content") or message.get("reasoning"),
        "output_text": message.get("content"),
        "refusal": message.get("refusal"),
    }
    return ((kind, text) for kind, text in texts.items() if text and isinstance(text, str))


def item_kind(text_kind: str) -> Kind:
    """Return the kind of the item that holds a text of that kind."""
    return "reasoning" if text_kind == "reasoning_text" else "message"


def list_logprobs(choice: Body) -> list[Body]:
    """Return the log-probabilities of a choice's tokens. A token without bytes gets those of its text."""
    entries = (choice.get("logprobs") or {}).get("content") or ()
    return [
        {**_token(entry), "top_logprobs": [_token(top) for top in entry.get("top_logprobs") or ()]}
        for entry in entries
    ]


def _token(entry: Body) -> Body:
    token_bytes = entry.get("bytes")
    if token_bytes is None:
        token_bytes = list(entry["token"].encode())
    return {"token": entry["token"], "bytes": token_bytes, "logprob": entry.get("logprob")}


def item_id(kind: Kind, response_id: str, place: int) -> str:
    """Return the id of a response's item. `place` is its place among the items of its kind, from 0."""
    return f"{_PREFIX[kind]}_{response_id.removeprefix('resp_')}_{place}"


def response_id_of(item_id: str) -> str:
    """Return the id of the response that an item belongs to; of no response if the id is not of an item."""
    return f"resp_{item_id.partition('_')[2].rpartition('_')[0]}"


def reasoning(response_id: str, place: int, parts: list[Body], status: Status) -> Body:
    """Return a reasoning item. Some clients read only its summary, so the text is there too."""
    own_id = item_id("reasoning", response_id, place)
    summary = [summary_part(each["text"]) for each in parts]
    return {"id": own_id, "type": "reasoning", "summary": summary, "content": parts, "status": status}


def message(response_id: str, place: int, parts: list[Body], status: Status) -> Body:
    own_id = item_id("message", response_id, place)
    return {"id": own_id, "type": "message", "role": "assistant", "content": parts, "status": status}


def call_kind(tool_call: Body) -> CallKind:
    """Return the kind of the item that holds a chat tool call, of which the first delta is enough."""
    return "custom_tool_call" if tool_call.get("custom") else "function_call"


def call_text(tool_call: Body) -> str:
    """Return a function's arguments or a custom tool's input, or a delta's part of it."""
    called = tool_call.get("custom") or tool_call.get("function") or {}
    return called.get("arguments") or called.get("input") or ""


def call(response_id: str, place: int, tool_call: Body, text: str, status: Status, names: ToolNames) -> Body:
    """Return the item of a call. `tool_call` is chat's tool call, or its first delta, which has its id and name.

    `text` is all that `call_text` gives; `names` are those of the request's tools.
    """
    kind = call_kind(tool_call)
    own_id = item_id(kind, response_id, place)
    called = tool_call.get("custom") or tool_call.get("function") or {}
    item = {
        "id": own_id,
        "type": kind,
        "call_id": tool_call.get("id") or f"call_{own_id.partition('_')[2]}",
        **names.to_item(called.get("name") or ""),
    }
    return item | ({"input": text} if kind == "custom_tool_call" else {"arguments": text, "status": status})


def part(kind: str, text: str, logprobs: list[Body]) -> Body:
    """Return a content part. Only the answer's text has log-probabilities."""
    if kind == "output_text":
        return {"type": kind, "text": text, "annotations": [], "logprobs": logprobs}
    return {"type": kind, text_key(kind): text}


def summary_part(text: str) -> Body:
    return {"type": "summary_text", "text": text}


def text_key(kind: str) -> str:
    return "refusal" if kind == "refusal" else "text"


def call_status(arguments: str, *, cut: bool) -> Status:
    """Return a call's status. If the answer was cut off, only a call with complete arguments is completed."""
    return "incomplete" if cut and not is_complete_json_object(arguments) else "completed"
