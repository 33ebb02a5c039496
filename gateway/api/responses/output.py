"""What a chat message says -> the Responses API's output items and their content parts."""

from collections.abc import Iterator
from typing import Any, Literal

import orjson

from gateway.wire.body_types import Body

Status = Literal["in_progress", "completed", "incomplete"]
Kind = Literal["reasoning", "message", "function_call"]

_PREFIX: dict[Kind, str] = {"reasoning": "rs", "message": "msg", "function_call": "fc"}


def list_texts(message: Body) -> Iterator[tuple[str, str]]:
    """The texts of a chat message, or what a chunk's delta adds to them, each with its content part's type.
    Reasoning is not OpenAI's: vLLM, llama.cpp and DeepSeek call it `reasoning_content`, OpenRouter `reasoning`."""
    found = {
        "reasoning_text": message.get("reasoning_content") or message.get("reasoning"),
        "output_text": message.get("content"),
        "refusal": message.get("refusal"),
    }
    return ((kind, text) for kind, text in found.items() if text and isinstance(text, str))


def item_kind(text_kind: str) -> Kind:
    """The kind of the item in which a text of that kind stands."""
    return "reasoning" if text_kind == "reasoning_text" else "message"


def list_logprobs(choice: Body) -> list[Body]:
    """The tokens of a choice's text. A server that leaves out a token's bytes means those of its text."""
    entries = (choice.get("logprobs") or {}).get("content") or ()
    return [
        {**_token(entry), "top_logprobs": [_token(top) for top in entry.get("top_logprobs") or ()]}
        for entry in entries
    ]


def _token(entry: Body) -> Body:
    given = entry.get("bytes")
    token_bytes = list(entry["token"].encode()) if given is None else given
    return {"token": entry["token"], "bytes": token_bytes, "logprob": entry["logprob"]}


def item_id(kind: Kind, response_id: str, place: int) -> str:
    """The id of a response's item, the `place`th of its kind."""
    return f"{_PREFIX[kind]}_{response_id.removeprefix('resp_')}_{place}"


def reasoning(response_id: str, place: int, parts: list[Body], status: Status) -> Body:
    own_id = item_id("reasoning", response_id, place)
    return {"id": own_id, "type": "reasoning", "summary": [], "content": parts, "status": status}


def message(response_id: str, place: int, parts: list[Body], status: Status) -> Body:
    own_id = item_id("message", response_id, place)
    return {"id": own_id, "type": "message", "role": "assistant", "content": parts, "status": status}


def call(response_id: str, place: int, tool_call: Body, arguments: str, status: Status) -> Body:
    """`given` is the tool call as chat has it, or the first delta of it, which holds its id and its name."""
    own_id = item_id("function_call", response_id, place)
    return {
        "id": own_id,
        "type": "function_call",
        "call_id": tool_call.get("id") or own_id.replace("fc_", "call_", 1),
        "name": (tool_call.get("function") or {}).get("name") or "",
        "arguments": arguments,
        "status": status,
    }


def part(kind: str, text: str, logprobs: list[Body]) -> Body:
    """A content part; only the answer's text has log-probabilities."""
    if kind == "output_text":
        return {"type": kind, "text": text, "annotations": [], "logprobs": logprobs}
    return {"type": kind, text_key(kind): text}


def text_key(kind: str) -> str:
    return "refusal" if kind == "refusal" else "text"


def call_status(arguments: str, *, cut: bool) -> Status:
    """Of an answer that was cut off, those calls stand whose arguments had come to their end."""
    return "incomplete" if cut and not is_complete_json_object(arguments) else "completed"


def is_complete_json_object(arguments: str) -> bool:
    """Whether they are complete: a JSON object, of which no beginning is one."""
    try:
        parsed: Any = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return False
    return isinstance(parsed, dict)
