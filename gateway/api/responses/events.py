"""Converts a chat stream's chunks to the streaming events of the Responses API.

OpenAI, API reference, "Streaming events"; fields as in the official client's `ResponseStreamEvent`.

Clients may track one item at a time. So an item is done before the next one is added, and a text that chat resumes
after another item becomes a new item. Only tool calls stay open together, since their arguments may come in turns.
"""

from collections.abc import Generator, Iterator

from gateway.wire import sse
from gateway.wire.body_types import Body
from gateway.wire.chunks.tool_calls import ToolCalls, are_complete_arguments

from . import output
from .completed import INCOMPLETE_REASONS, finish_response, start_response
from .tool_names import ToolNames

TOP_LEVEL_FIELDS = ("model", "usage", "service_tier", "smallfirst")
"""Fields that a response takes from a chunk, apart from the choices."""

REASONING = "reasoning_text"
"""The kind of a reasoning item's text. Each of its events is followed by the summary's, which some clients read."""

ARGUMENTS = "arguments"
"""The kind of a call's only text, which is no content part."""

ARGUMENT_EVENTS = {"function_call": "function_call_arguments", "custom_tool_call": "custom_tool_call_input"}
"""What the events of a call's text are of, by the kind of the item."""


def encode(event: Body) -> bytes:
    """Return the event's bytes in the stream. No `[DONE]` follows the last event."""
    return b"event: %b\n%b" % (event["type"].encode(), sse.encode_event(event))


class ResponseEvents:
    """Builds the events of one stream. Call `begin`, then `chunk` for each chunk, then `finish` or `fail`.

    `request` is the /v1/responses body; `created_at`, in seconds since 1970, is in every response object. The last
    response equals what `to_response` returns for the assembled chunks, with two exceptions: its items are in order
    of arrival, and a text that was resumed takes several items.
    """

    def __init__(self, request: Body, response_id: str, created_at: int) -> None:
        self._response = start_response(request, response_id, created_at)
        self._completion: Body = {}
        self._finish: str | None = None
        self._items: list[_Item] = []
        self._current: _Item | None = None
        self._tool_calls = ToolCalls()
        self._calls: list[_Item] = []
        self._logprobs: list[Body] = []
        self._names = ToolNames(request.get("tools"))
        self._sent = 0

    def begin(self) -> list[Body]:
        return [self._lifecycle(kind, self._response) for kind in ("created", "in_progress")]

    def chunk(self, chunk: Body) -> list[Body]:
        """Return the events of a chat.completion.chunk. Only its first choice is read."""
        for key in TOP_LEVEL_FIELDS:
            if chunk.get(key) is not None:
                self._completion[key] = chunk[key]
        choices = chunk.get("choices") or ()
        return [event for choice in choices if not choice.get("index") for event in self._choice(choice)]

    def finish(self, usage: Body | None = None, extra: Body | None = None) -> list[Body]:
        """Return the events that end an answer.

        `usage` is the chunk that reports the usage; `extra` is merged into the last response.
        """
        events = self.chunk(usage) if usage is not None else []
        if not self._items:
            events += self._text("output_text", "")
        cut = self._finish in INCOMPLETE_REASONS
        for item in self._items:
            if item.done is None:
                events += self._close_item(item, item.status_at_end(cut=cut))
        items = [item.done for item in self._items if item.done is not None]
        response = finish_response(self._response, self._completion, self._finish, items) | (extra or {})
        return [*events, self._lifecycle(response["status"], response)]

    def fail(self, message: str, code: str) -> list[Body]:
        """Return the events that end an answer that broke off; unfinished items are `incomplete`.

        `code` is that of an ApiError. A response's own error has few codes: `server_error` stands for the others.
        """
        known = code if code == "rate_limit_exceeded" else "server_error"
        response = {
            **self._response,
            "status": "failed",
            "error": {"code": known, "message": message},
            "output": [item.done or item.build("incomplete") for item in self._items],
        }
        first = self._event("error", code=code, message=message, param=None)
        return [first, self._lifecycle("failed", response)]

    def _choice(self, choice: Body) -> Iterator[Body]:
        delta = choice.get("delta") or {}
        self._finish = choice.get("finish_reason") or self._finish
        self._logprobs += output.list_logprobs(choice)
        for kind, text in output.list_texts(delta):
            yield from self._text(kind, text)
        for call in self._tool_calls.read(delta.get("tool_calls") or ()):
            yield from self._call(call)

    def _text(self, kind: str, text: str) -> Iterator[Body]:
        item, item_kind = self._current, output.item_kind(kind)
        if item is None or item.kind != item_kind:
            item = yield from self._open_item(item_kind)
        if kind not in item.texts:
            item.texts[kind] = []
            yield self._event(
                "response.content_part.added", **item.location(kind), part=output.part(kind, "", [])
            )
            if kind == REASONING:
                yield self._summary(item, "part.added", part=output.summary_part(""))
        item.texts[kind].append(text)
        logprobs = {"logprobs": self._take_logprobs(item)} if kind == "output_text" else {}
        yield self._event(f"response.{kind}.delta", **item.location(kind), delta=text, **logprobs)
        if kind == REASONING:
            yield self._summary(item, "text.delta", delta=text)

    def _call(self, call: Body) -> Iterator[Body]:
        arguments = output.call_text(call)
        if call["index"] == len(self._calls):
            item = yield from self._open_item(output.call_kind(call), call)
            self._calls.append(item)
        else:
            item = self._calls[call["index"]]
            if item.done is not None or not arguments:
                return  # nothing but blanks can follow complete arguments
            if item is not self._current:
                yield from self._close_current()
                self._current = item
        if arguments:
            item.texts[ARGUMENTS].append(arguments)
            kind = ARGUMENT_EVENTS[item.kind]
            yield self._event(f"response.{kind}.delta", **item.location(ARGUMENTS), delta=arguments)

    def _open_item(self, kind: output.Kind, call: Body | None = None) -> Generator[Body, None, "_Item"]:
        yield from self._close_current()
        place = sum(item.kind == kind for item in self._items)
        item = self._current = _Item(kind, self._response["id"], place, len(self._items), call, self._names)
        self._items.append(item)
        added = item.build("in_progress")
        yield self._event("response.output_item.added", output_index=item.index, item=added)
        return item

    def _close_current(self) -> Iterator[Body]:
        """Close the current item, since another follows. A call stays open until its arguments are complete."""
        item = self._current
        if item is not None and (item.kind not in ARGUMENT_EVENTS or item.arguments_end()):
            yield from self._close_item(item, "completed")

    def _close_item(self, item: "_Item", status: output.Status) -> Iterator[Body]:
        if item.kind == "message":
            self._take_logprobs(item)
        done = item.done = item.build(status)
        for kind in item.texts:
            yield from self._finish_text(item, kind, done)
        yield self._event("response.output_item.done", output_index=item.index, item=done)

    def _finish_text(self, item: "_Item", kind: str, done: Body) -> Iterator[Body]:
        at, text = item.location(kind), item.text(kind)
        if item.kind == "custom_tool_call":
            yield self._event("response.custom_tool_call_input.done", **at, input=text)
            return
        if kind == ARGUMENTS:
            # The API's reference has `name`, though the types of some clients do not.
            yield self._event(
                "response.function_call_arguments.done", **at, arguments=text, name=done["name"]
            )
            return
        logprobs = {"logprobs": item.logprobs} if kind == "output_text" else {}
        yield self._event(f"response.{kind}.done", **at, **{output.text_key(kind): text}, **logprobs)
        part = output.part(kind, text, item.logprobs)
        yield self._event("response.content_part.done", **at, part=part)
        if kind == REASONING:
            yield self._summary(item, "text.done", text=text)
            yield self._summary(item, "part.done", part=output.summary_part(text))

    def _summary(self, item: "_Item", what: str, **fields: object) -> Body:
        at = item.location(ARGUMENTS) | {"summary_index": 0}
        return self._event(f"response.reasoning_summary_{what}", **at, **fields)

    def _take_logprobs(self, item: "_Item") -> list[Body]:
        """Return the log-probabilities since the last text. A token may hold less than a character, and so no text."""
        new, self._logprobs = self._logprobs, []
        item.logprobs += new
        return new

    def _lifecycle(self, kind: str, response: Body) -> Body:
        return self._event(f"response.{kind}", response=response)

    def _event(self, kind: str, **fields: object) -> Body:
        event = {"type": kind, "sequence_number": self._sent, **fields}
        self._sent += 1
        return event


class _Item:
    """An output item being written. `texts` holds the pieces of its texts by kind, in order of their beginnings.

    `done` is the finished item, else None. `call` is the first delta of a call; `names` are those of the tools.
    """

    def __init__(
        self,
        kind: output.Kind,
        response_id: str,
        place: int,
        index: int,
        call: Body | None,
        names: ToolNames,
    ) -> None:
        self.kind = kind
        self.index = index
        self.texts: dict[str, list[str]] = {} if call is None else {ARGUMENTS: []}
        self.logprobs: list[Body] = []
        self.done: Body | None = None
        self._response_id = response_id
        self._place = place
        self._call = call
        self._names = names

    def text(self, kind: str) -> str:
        return "".join(self.texts[kind])

    def arguments_end(self) -> bool:
        """Return whether a call's arguments are complete.

        This is checked at every turn between calls. A custom tool's input is free text, whose end is not to be seen.
        """
        return self.kind == "function_call" and are_complete_arguments(self.texts[ARGUMENTS])

    def location(self, kind: str) -> Body:
        """Return the fields that tell an event's item and content part."""
        item_id = output.item_id(self.kind, self._response_id, self._place)
        at = {"item_id": item_id, "output_index": self.index}
        return at if kind == ARGUMENTS else at | {"content_index": list(self.texts).index(kind)}

    def build(self, status: output.Status) -> Body:
        if self._call is not None:
            text = self.text(ARGUMENTS)
            return output.call(self._response_id, self._place, self._call, text, status, self._names)
        parts = [output.part(kind, self.text(kind), self.logprobs) for kind in self.texts]
        make = output.reasoning if self.kind == "reasoning" else output.message
        return make(self._response_id, self._place, parts, status)

    def status_at_end(self, *, cut: bool) -> output.Status:
        """Return the item's status at the end of the answer. `cut` is whether the answer was cut off."""
        if self._call is not None:
            return output.call_status(self.text(ARGUMENTS), cut=cut)
        return "incomplete" if cut else "completed"
