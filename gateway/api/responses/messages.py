"""Converts the `input` of the Responses API to chat messages. The items of one turn become one message."""

from collections.abc import Callable, Sequence
from typing import Any

from gateway.errors import invalid, unsupported
from gateway.wire.body_types import Body
from gateway.wire.validation import check_type

from .fields import optional, required
from .tool_names import ToolNames

ROLES = ("user", "assistant", "system", "developer")


def read_messages(input: Any, earlier: Sequence[Body], names: ToolNames) -> list[Body]:
    """Return the chat messages of an `input` and of the items before it. `names` are those of the request's tools.

    Raises ApiError that names the item and the field.
    """
    if input is None:
        raise invalid("input is required: a string or a list of items", "input", "missing_required_parameter")
    if not isinstance(input, str):
        check_type("input", input, list, "a string or a list of items")
    messages: list[Body] = []
    for item in earlier:
        _add(messages, names.flatten_item(item), "previous_response_id")
    known = [call["id"] for message in messages[-1:] for call in message.get("tool_calls") or ()]
    for index, item in enumerate(list_items(input)):
        where = f"input[{index}]"
        check_type(where, item, dict, "an object")
        if not (known and _is_call_of(item, known)):
            _add(messages, names.flatten_item(item), where)
    if not messages:
        raise invalid("input must hold at least one message", "input")
    return messages


def _is_call_of(item: Body, known: list[str]) -> bool:
    """Return whether an item is a call whose id is known: some clients send it again after `previous_response_id`."""
    return item.get("type") in ("function_call", "custom_tool_call") and item.get("call_id") in known


def list_items(input: str | list[Any]) -> list[Any]:
    """Return the items of an `input`. A string is a user's message."""
    return [{"role": "user", "content": input}] if isinstance(input, str) else input


def is_reference(item: Any) -> bool:
    """Return whether an item of an input stands for one that was sent before. It then need not have a type."""
    return isinstance(item, dict) and (item.get("type") == "item_reference" or item.keys() == {"id"})


def _add(messages: list[Body], item: Body, where: str) -> None:
    kind = optional(item, "type", str, where) or "message"
    if kind == "reasoning":
        return  # chat messages have no reasoning, and only OpenAI can read its encrypted form
    if kind not in ITEMS:
        known = "messages, calls of functions and custom tools, their outputs, and reasoning"
        raise unsupported(f"{where}.type", f"{kind!r} items are not read here, only {known}")
    ITEMS[kind](messages, item, where)


def _add_message(messages: list[Body], item: Body, where: str) -> None:
    role = required(item, "role", str, where)
    if role not in ROLES:
        raise invalid(f"{where}.role must be one of {', '.join(ROLES)}, not {role!r}", f"{where}.role")
    content = _content(item, "content", where)
    message: Body = {"role": role, "content": _to_content(content)}
    if refusals := [part["refusal"] for part in content if part["type"] == "refusal"]:
        texts = [part for part in content if part["type"] != "refusal"]
        message |= {"content": _to_content(texts) or None, "refusal": "".join(refusals)}
    _take_over_calls(messages, message)
    messages.append(message)


def _take_over_calls(messages: list[Body], message: Body) -> None:
    """Move the calls of a preceding assistant message to `message`: their outputs must follow directly."""
    last = messages[-1] if messages else {}
    if message["role"] == "assistant" and "tool_calls" in last:
        message["tool_calls"] = last.pop("tool_calls")
        if last == {"role": "assistant", "content": None}:
            messages.pop()


def _add_function_call(messages: list[Body], item: Body, where: str) -> None:
    function = {key: required(item, key, str, where) for key in ("name", "arguments")}
    _add_call(
        messages, {"id": required(item, "call_id", str, where), "type": "function", "function": function}
    )


def _add_custom_call(messages: list[Body], item: Body, where: str) -> None:
    custom = {key: required(item, key, str, where) for key in ("name", "input")}
    _add_call(messages, {"id": required(item, "call_id", str, where), "type": "custom", "custom": custom})


def _add_call(messages: list[Body], call: Body) -> None:
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    calls = messages[-1].setdefault("tool_calls", [])
    if call["id"] not in [
        each["id"] for each in calls
    ]:  # some clients send it again after `previous_response_id`
        calls.append(call)


def _add_output(messages: list[Body], item: Body, where: str) -> None:
    call_id = required(item, "call_id", str, where)
    content = _to_content(_content(item, "output", where))
    messages.append({"role": "tool", "tool_call_id": call_id, "content": content})


ITEMS: dict[str, Callable[[list[Body], Body, str], None]] = {
    "message": _add_message,
    "function_call": _add_function_call,
    "function_call_output": _add_output,
    "custom_tool_call": _add_custom_call,
    "custom_tool_call_output": _add_output,
}


def _content(item: Body, key: str, where: str) -> list[Body]:
    """Return the parts of a message or an output. A string is one part."""
    where = f"{where}.{key}"
    content: Any = item.get(key)
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    check_type(where, content, list, "a string or a list")
    return [_part(part, f"{where}[{index}]") for index, part in enumerate(content)]


def _to_content(parts: list[Body]) -> str | list[Body]:
    """Return a single plain text part as a string, which every server and chat template accepts."""
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        return str(parts[0]["text"])
    return parts


def _part(part: Any, where: str) -> Body:
    check_type(where, part, dict, "an object")
    kind = required(part, "type", str, where)
    if kind not in PARTS:
        raise invalid(f"{where}.type must be one of {', '.join(PARTS)}, not {kind!r}", f"{where}.type")
    return PARTS[kind](part, where)


def _text(part: Body, where: str) -> Body:
    return part | {"type": "text", "text": required(part, "text", str, where)}


def _own_text(part: Body, where: str) -> Body:
    return {"type": "text", "text": required(part, "text", str, where)}


def _refusal(part: Body, where: str) -> Body:
    return {"type": "refusal", "refusal": required(part, "refusal", str, where)}


def _image(part: Body, where: str) -> Body:
    if part.get("file_id") is not None:
        raise unsupported(f"{where}.file_id", "no files are stored here: send image_url")
    image = {"url": required(part, "image_url", str, where)}
    if (detail := optional(part, "detail", str, where)) is not None:
        image["detail"] = detail
    others = _other_fields(part, "image_url", "detail", "file_id")
    return {"type": "image_url", "image_url": image, **others}


def _file(part: Body, where: str) -> Body:
    if part.get("file_url") is not None:
        raise unsupported(f"{where}.file_url", "chat messages hold no URLs of files: send file_data")
    file = {key: part[key] for key in FILE if key in part}
    return {"type": "file", "file": file, **_other_fields(part, *FILE, "file_url", "detail")}


def _other_fields(part: Body, *read: str) -> Body:
    return {key: value for key, value in part.items() if key != "type" and key not in read}


def _keep_part(part: Body, _: str) -> Body:
    return part


FILE = ("file_data", "file_id", "filename")
PARTS: dict[str, Callable[[Body, str], Body]] = {
    "input_text": _text,
    "input_image": _image,
    "input_file": _file,
    "input_audio": _keep_part,
    "output_text": _own_text,
    "refusal": _refusal,
}
