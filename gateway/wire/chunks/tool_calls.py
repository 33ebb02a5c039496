"""Tells which tool call each delta of a stream belongs to, and brings the deltas into OpenAI's form.

OpenAI numbers the calls from 0, sends a call's id, type and name once, and its arguments as pieces of text. Other
servers leave the index out (Gemini, early Ollama), send 0 for every call (Ollama), begin elsewhere or send strings,
repeat the id and the name in each delta (SGLang), send a fresh id with each piece (early vLLM), or the arguments as
an object. Clients join deltas by index, so these would merge two calls into one, or repeat a name.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from gateway.wire.body_types import Body

TEXT_KEYS = {"function": "arguments", "custom": "input"}
"""The key of a call's text, by the key of what is called."""


def may_hold_tool_calls(event: bytes) -> bool:
    """Return whether an unparsed event may have deltas of tool calls. Some servers send null in every chunk."""
    return b'"tool_calls"' in event and b'"tool_calls":null' not in event


def is_complete_json_object(text: str) -> bool:
    """Return whether a text is a JSON object. No proper prefix of an object is one."""
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def are_complete_arguments(pieces: Sequence[str]) -> bool:
    """Return whether the pieces make a JSON object. They are only parsed if the last one ends like an object."""
    last = next((piece for piece in reversed(pieces) if piece.strip()), "")
    return last.rstrip().endswith("}") and is_complete_json_object("".join(pieces))


def stringify_arguments(choices: Sequence[Body]) -> bool:
    """Turn arguments that came as an object into JSON text, in a plain response. Return whether there were any."""
    messages = [choice.get("message") or {} for choice in choices]
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    functions = [call.get("function") or {} for call in calls]
    odd = [
        each for each in functions if each.get("arguments") is not None and type(each["arguments"]) is not str
    ]
    for function in odd:
        function["arguments"] = _to_text(function["arguments"])
    return bool(odd)


class StreamedCall:
    """One tool call of a stream, as far as it has come."""

    __slots__ = ("_ends_object", "id", "index", "name", "pieces", "type")

    def __init__(self, index: int) -> None:
        self.index = index
        self._ends_object = False
        self.id = ""
        self.type = ""
        self.name = ""
        self.pieces: list[str] = []

    @property
    def text(self) -> str:
        """The arguments, or the input of a custom tool."""
        if len(self.pieces) > 1:
            self.pieces = ["".join(self.pieces)]  # joined once: it may be asked for at every delta
        return "".join(self.pieces)

    def add(self, text: str) -> None:
        self.pieces.append(text)
        if text.strip():
            self._ends_object = text.rstrip().endswith("}")

    def is_complete(self) -> bool:
        """Return whether the text is a JSON object: nothing but blanks can follow."""
        return self._ends_object and is_complete_json_object(self.text)


class _Delta:
    """What a delta says of its call. Raises TypeError or AttributeError if it is malformed."""

    __slots__ = ("id", "index", "kind", "name", "text", "type")

    def __init__(self, part: Body) -> None:
        self.kind = "custom" if part.get("custom") else "function"
        called = part.get(self.kind) or {}
        index = part.get("index")
        self.index = None if index is None else str(index)  # 0 and "0" are the same
        self.id = _to_text(part.get("id"))
        self.type = _to_text(part.get("type"))
        self.name = called.get("name") or ""
        if not isinstance(self.name, str):
            raise TypeError(f"the name of a tool is no text: {self.name!r}")
        self.text = _to_text(called.get(TEXT_KEYS[self.kind]))


class ToolCalls:
    """Follows the tool calls of one choice of a stream. Its output, read again, stays as it is."""

    def __init__(self) -> None:
        self.calls: list[StreamedCall] = []
        """The calls, in the order in which they began."""
        self._by_id: dict[str, StreamedCall] = {}
        self._by_index: dict[str, StreamedCall] = {}
        self._by_place: dict[int, StreamedCall] = {}

    def normalize(self, delta: Body) -> bool:
        """Bring a chunk's delta into OpenAI's form. Return whether that has changed it."""
        parts = delta.get("tool_calls")
        if not parts:
            return False
        normal = self.read(parts)
        if normal == parts:
            return False
        delta["tool_calls"] = normal
        return True

    def read(self, parts: Sequence[Body]) -> list[Body]:
        """Return a chunk's deltas of tool calls in OpenAI's form; each has its call's index, counted from 0.

        Raises TypeError or AttributeError if one is malformed.
        """
        return [self._read(part, place) for place, part in enumerate(parts)]

    def _read(self, part: Body, place: int) -> Body:
        delta = _Delta(part)
        call = self._find(delta, place) or self._begin()
        self._by_place[place] = call
        if delta.index is not None:
            self._by_index[delta.index] = call
        if delta.id:
            self._by_id[delta.id] = call
        return _extend(call, delta, part)

    def _begin(self) -> StreamedCall:
        call = StreamedCall(len(self.calls))
        self.calls.append(call)
        return call

    def _find(self, delta: _Delta, place: int) -> StreamedCall | None:
        """Return the call that a delta continues; None if it begins one."""
        if (known := self._by_id.get(delta.id)) is not None:
            return None if _begins_anew(delta, known) and delta.text != known.text else known
        call = self._by_place.get(place) if delta.index is None else self._by_index.get(delta.index)
        if delta.id:
            return call if call is not None and _continues_despite_id(delta, call) else None
        if not delta.name:  # only a name begins a call
            return call or (self.calls[-1] if self.calls else None)
        if call is None or _begins_anew(delta, call):
            return None
        return call if delta.index is not None or delta.name == call.name else None


def _begins_anew(delta: _Delta, call: StreamedCall) -> bool:
    """Return whether a delta names a tool, and brings arguments that the call can not take: its own are complete."""
    return bool(delta.name and delta.text.strip()) and call.is_complete()


def _continues_despite_id(delta: _Delta, call: StreamedCall) -> bool:
    """Return whether a delta with an unknown id belongs to the call at its index all the same.

    It does if that call's id comes late, or if a server makes up an id for each piece: then the piece has no name.
    """
    if delta.index is None:
        return False
    if call.id:
        return bool(delta.text) and not delta.name and not call.is_complete()
    return delta.name in ("", call.name) and not call.is_complete()


def _extend(call: StreamedCall, delta: _Delta, part: Body) -> Body:
    """Add a delta to its call, and return it without what the call has already."""
    out = {**part, "index": call.index}
    for key in ("id", "type"):
        if value := getattr(delta, key):
            if getattr(call, key):
                del out[key]
            else:
                setattr(call, key, value)
                out[key] = value
    if not part.get(delta.kind):
        return out
    called = out[delta.kind] = {**part[delta.kind]}
    if delta.name and delta.name == call.name:
        del called["name"]
        if call.is_complete() and call.text == delta.text:  # the whole call once more
            delta.text = called[TEXT_KEYS[delta.kind]] = ""
    elif delta.name:
        call.name += delta.name
    if delta.text:
        called[TEXT_KEYS[delta.kind]] = delta.text
        call.add(delta.text)
    return out


def _to_text(value: Any) -> str:
    """Return a text as it is, and any other JSON value as JSON text; empty for null."""
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()
