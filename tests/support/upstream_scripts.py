"""What servers send in answer to a chat request, by chance in any shape that is known of them, and what is right.

A script begins as the stream that OpenAI would send. Each change makes it the stream of some other server, and says
what of the answer is different then. A new kind of server is a new strategy in `CHANGES`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st
from support.scripted_server import logprobs_of

Body = dict[str, Any]
Event = Body | bytes
"""A chunk, or an event's bytes without its blank line."""

PROMPT_TOKENS = 10
DONE = b"data: [DONE]"


@dataclass(frozen=True)
class Script:
    """What a server sends, and what the gateway should make of it.

    `text` is the answer's, and `calls` are its tool calls, by name and arguments. `finish` is None if the answer breaks
    off. `usage` are the completion's tokens, None if the server does not tell. `error` is the error that the server
    reports, and `status` what its status would have been alone, 0 if nothing tells it; both end the answer. `is_fault`
    is whether a breaker should count it.
    """

    events: tuple[Event, ...]
    text: str
    finish: str | None = "stop"
    usage: int | None = 0
    error: Body | None = None
    status: int = 200
    is_fault: bool = False
    calls: tuple[tuple[str, str], ...] = ()
    then: str = "end"
    cuts: tuple[float, ...] = ()
    """Shares of the body at which it is cut into writes."""
    is_plain: bool = False
    spaces: bool = False
    line_end: bytes = b"\n"
    content_type: str = "text/event-stream"

    @property
    def is_whole(self) -> bool:
        return self.finish is not None and self.error is None

    @property
    def chunk_places(self) -> list[int]:
        """Where the chunks with choices are."""
        return [
            place
            for place, event in enumerate(self.events)
            if isinstance(event, dict) and event.get("choices")
        ]

    @property
    def finish_place(self) -> int:
        """Where the first chunk with a finish reason is."""
        return next(
            place
            for place in self.chunk_places
            if self.events[place]["choices"][0].get("finish_reason")  # type: ignore[index,call-overload]
        )

    def encode(self) -> bytes:
        """Return the response's body."""
        if self.is_plain:
            return self._write(self._build_plain()).encode()
        blocks = [event if isinstance(event, bytes) else self._encode_chunk(event) for event in self.events]
        stream = b"".join(block + b"\n\n" for block in blocks)
        return stream.replace(b"\n", self.line_end)

    def _encode_chunk(self, chunk: Body) -> bytes:
        return b"data: " + self._write(chunk).encode()

    def _write(self, value: Body) -> str:
        return json.dumps(value, separators=None if self.spaces else (",", ":"))

    def _build_plain(self) -> Body:
        if self.error is not None:
            return {"error": self.error}
        message: Body = {"role": "assistant", "content": self.text}
        if self.calls:
            message["tool_calls"] = [
                {
                    "id": f"call_{place}",
                    "type": "function",
                    "function": {"name": name, "arguments": arguments},
                }
                for place, (name, arguments) in enumerate(self.calls)
            ]
        whole = {
            "id": "up-1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish}],
        }
        return whole | ({} if self.usage is None else {"usage": usage_of(self.usage)})

    def put(self, place: int, *events: Event) -> "Script":
        """Return the script with events before the one at `place`."""
        return replace(self, events=(*self.events[:place], *events, *self.events[place:]))

    def change_chunks(self, change: Callable[[Body], Body]) -> "Script":
        """Return the script with each chunk that has choices changed."""
        events = tuple(
            change(event) if isinstance(event, dict) and event.get("choices") else event
            for event in self.events
        )
        return replace(self, events=events)


Change = Callable[[Script], Script]


def usage_of(completion: int) -> Body:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": completion,
        "total_tokens": PROMPT_TOKENS + completion,
    }


def chunk_of(delta: Body, finish: str | None = None, **choice: Any) -> Body:
    return {
        "id": "up-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish, **choice}],
    }


def openai_script(words: Sequence[str], logprob: float = -0.01) -> Script:
    """Return the stream that OpenAI sends for an answer, with log-probabilities, usage and `[DONE]`."""
    events: list[Event] = [chunk_of({"role": "assistant", "content": ""})]
    events += [chunk_of({"content": word}, logprobs=logprobs_of(word, logprob)) for word in words]
    usage = chunk_of({}) | {"choices": [], "usage": usage_of(len(words))}
    events += [chunk_of({}, "stop"), usage, DONE]
    return Script(tuple(events), "".join(words), usage=len(words))


# Changes that leave the answer as it is.


def _change_delta(chunk: Body, delta: Body) -> Body:
    (choice,) = chunk["choices"]
    return {**chunk, "choices": [{**choice, "delta": {**choice["delta"], **delta}}]}


def _change_choice(chunk: Body, **fields: Any) -> Body:
    return {**chunk, "choices": [{**chunk["choices"][0], **fields}]}


def name_role_everywhere(script: Script) -> Script:
    return script.change_chunks(lambda chunk: _change_delta(chunk, {"role": "assistant"}))


def name_role_as_null(script: Script) -> Script:
    """The role is null in every chunk but the first."""
    return script.change_chunks(
        lambda chunk: _change_delta(chunk, {"role": chunk["choices"][0]["delta"].get("role")})
    )


def name_no_role(script: Script) -> Script:
    return replace(script, events=script.events[1:])


def _blank_finish(value: Any) -> Change:
    def change(chunk: Body) -> Body:
        (choice,) = chunk["choices"]
        return chunk if choice["finish_reason"] else _change_choice(chunk, finish_reason=value)

    return lambda script: script.change_chunks(change)


def leave_out_null_finish(script: Script) -> Script:
    def change(chunk: Body) -> Body:
        (choice,) = chunk["choices"]
        fields = {key: value for key, value in choice.items() if key != "finish_reason" or value}
        return {**chunk, "choices": [fields]}

    return script.change_chunks(change)


def add_null_error(script: Script) -> Script:
    return script.change_chunks(lambda chunk: {**chunk, "error": None})


def leave_out_logprobs(script: Script) -> Script:
    return script.change_chunks(lambda chunk: _change_choice(chunk, logprobs=None))


def finish_twice(script: Script) -> Script:
    return script.put(script.finish_place + 1, chunk_of({}, "stop"))


def finish_with_text(script: Script) -> Script:
    """The last part of the answer has the finish reason, and no chunk has it alone."""
    *_, last, end = script.chunk_places
    events = list(script.events)
    events[last] = _change_choice(events[last], finish_reason=script.finish)  # type: ignore[arg-type]
    del events[end]
    return replace(script, events=tuple(events))


def report_usage_everywhere(script: Script) -> Script:
    assert script.usage is not None
    counted = usage_of(script.usage)
    return script.change_chunks(lambda chunk: {**chunk, "usage": counted})


def report_usage_at_finish(script: Script) -> Script:
    """The chunk with the finish reason has the usage, and there is no chunk for it alone."""
    events = [event for event in script.events if not isinstance(event, dict) or event["choices"]]
    place = script.chunk_places[-1]
    events[place] = {**events[place], "usage": usage_of(script.usage or 0)}  # type: ignore[dict-item]
    return replace(script, events=tuple(events))


def report_usage_before_finish(script: Script) -> Script:
    usage = script.events[-2]
    events = [event for event in script.events if event is not usage]
    return replace(script, events=tuple(events)).put(script.finish_place, usage)


def report_no_usage(script: Script) -> Script:
    events = [event for event in script.events if not isinstance(event, dict) or event["choices"]]
    return replace(script, events=tuple(events), usage=None)


def write_done(*events: bytes) -> Change:
    return lambda script: replace(script, events=(*script.events[:-1], *events))


@st.composite
def _call_tools(draw: st.DrawFn) -> Change:
    """Add tool calls, in pieces, after the text."""
    arguments = draw(st.lists(st.sampled_from(['{"city": "Bern"}', "{}"]), min_size=1, max_size=2))

    def change(script: Script) -> Script:
        deltas: list[Event] = []
        for place, text in enumerate(arguments):
            begun = {"name": "look", "arguments": ""}
            deltas.append(_call_delta(place, begun, id=f"call_{place}", type="function"))
            deltas += [_call_delta(place, {"arguments": piece}) for piece in (text[:3], text[3:]) if piece]
        events = list(script.events)
        events[script.finish_place] = chunk_of({}, "tool_calls")
        calls = tuple(("look", text) for text in arguments)
        changed = replace(script, events=tuple(events), finish="tool_calls", calls=calls)
        return changed.put(changed.finish_place, *deltas)

    return change


def _call_delta(place: int, function: Body, **fields: Any) -> Body:
    return chunk_of({"tool_calls": [{"index": place, **fields, "function": function}]})


@st.composite
def _insert(draw: st.DrawFn) -> Change:
    """Insert something that has nothing of an answer, anywhere."""
    event = draw(
        st.sampled_from(
            [
                b": a comment",
                b"event: ping",
                chunk_of({}),
                chunk_of({"content": ""}),
                chunk_of({"role": "assistant"}),
                {"id": "", "object": "", "created": 0, "model": "", "choices": []},
            ]
        )
    )
    share = draw(st.floats(0, 1))
    return lambda script: script.put(round(share * (len(script.events) - 1)), event)


@st.composite
def _frame(draw: st.DrawFn) -> Change:
    fields = {
        "spaces": draw(st.booleans()),
        "line_end": draw(st.sampled_from([b"\n", b"\r\n", b"\r"])),
        "content_type": draw(st.sampled_from(["text/event-stream", "application/json"])),
        "cuts": tuple(draw(st.lists(st.floats(0, 1), max_size=4))),
    }
    return lambda script: replace(script, **fields)


TRAILERS: list[bytes] = [
    b"data: {nonsense",
    b"data: [1]",
    b'data: {"choices":[7]}',
    b'data: {"choices":7}',
    b'data: {"error":{"message":"too late","code":502}}',
    b"error: too late",
    b"data: " + b"[" * 300 + b"]" * 300,
    b'data: {"choices":[],"usage":{"prompt_tokens_details":7}}',
]


@st.composite
def _follow(draw: st.DrawFn) -> Change:
    """Let something malformed follow the finish reason, or break the connection."""
    trailer, breaks = draw(st.sampled_from(TRAILERS)), draw(st.booleans())

    def change(script: Script) -> Script:
        changed = script.put(len(script.events) - 1, trailer)
        return replace(changed, then="abort") if breaks else changed

    return change


# Changes that end the answer.

ERRORS: list[tuple[Body, int, bool]] = [
    ({"code": 400, "message": "The model takes no images.", "type": "BadRequestError"}, 400, False),
    ({"code": "429", "message": "Slow down."}, 429, False),
    ({"type": "rate_limit_error", "message": "Slow down."}, 429, False),
    ({"status": "RESOURCE_EXHAUSTED", "message": "Quota."}, 429, False),
    ({"code": "context_length_exceeded", "message": "Too long."}, 400, False),
    ({"code": 401, "message": "Who are you?"}, 401, False),
    ({"type": "NotFoundError", "message": "No such model."}, 404, False),
    ({"code": 500, "message": "Unsupported param: messages", "type": "server_error"}, 500, False),
    ({"code": 500, "message": "out of memory"}, 500, True),
    ({"type": "api_error", "message": "out of memory"}, 500, True),
    ({"code": 502, "message": "Provider disconnected"}, 502, True),
    ({"type": "overloaded_error", "message": "Overloaded"}, 503, True),
    ({"message": "it broke"}, 0, True),
]
"""Errors, what their status would have been alone, and whether they are their server's fault."""


def _report_at_top(error: Body) -> bytes:
    return b"data: " + json.dumps({"error": error}).encode()


def _report_with_choices(error: Body) -> bytes:
    chunk = chunk_of({"content": ""}, "error") | {"error": error}
    return b"data: " + json.dumps(chunk).encode()


def _report_in_choice(error: Body) -> bytes:
    chunk = chunk_of({}, error=error)
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode()


def _report_as_object(error: Body) -> bytes:
    return b"data: " + json.dumps({"object": "error", **error}).encode()


def _report_by_line(error: Body) -> bytes:
    return b"error: " + json.dumps(error).encode()


def _report_by_event(error: Body) -> bytes:
    return b"event: error\ndata: " + json.dumps(error).encode()


REPORTS: list[Callable[[Body], bytes]] = [
    _report_at_top,
    _report_with_choices,
    _report_in_choice,
    _report_as_object,
    _report_by_line,
    _report_by_event,
]
"""How servers report an error inside a stream."""


def report_error(script: Script, place: int, report: bytes, error: Body, status: int, fault: bool) -> Script:
    """Return the script with an error instead of the event at `place`, and `[DONE]` after it."""
    text = "".join(
        event["choices"][0]["delta"].get("content") or ""
        for event in script.events[:place]
        if isinstance(event, dict) and event["choices"]
    )
    events = (*script.events[:place], report, DONE)
    return replace(
        script,
        events=events,
        text=text,
        calls=(),
        finish=None,
        usage=None,
        error=error,
        status=status,
        is_fault=fault,
    )


@st.composite
def _fail(draw: st.DrawFn) -> Change:
    """Report an error somewhere before the finish reason."""
    error, status, fault = draw(st.sampled_from(ERRORS))
    report = draw(st.sampled_from(REPORTS))(error)
    share = draw(st.floats(0, 1))
    return lambda script: report_error(
        script, round(share * script.finish_place), report, error, status, fault
    )


@st.composite
def _break(draw: st.DrawFn) -> Change:
    """Break off somewhere before the finish reason, within an event or between two."""
    share, then, tail = (
        draw(st.floats(0, 1)),
        draw(st.sampled_from(["abort", "end"])),
        draw(st.sampled_from([b"", b'data: {"id":"up-1","choi'])),
    )

    def change(script: Script) -> Script:
        place = round(share * script.finish_place)
        kept = script.events[:place]
        cut = report_error(script, place, b"", {}, 0, True)
        return replace(cut, events=(*kept, *([tail] if tail else [])), error=None, then=then)

    return change


CHANGES: dict[str, st.SearchStrategy[Change]] = {
    "tools": _call_tools(),
    "role": st.sampled_from([name_role_everywhere, name_role_as_null, name_no_role]),
    "finish": st.sampled_from([finish_twice, finish_with_text]),
    "null finish": st.sampled_from([_blank_finish(""), _blank_finish("null"), leave_out_null_finish]),
    "error null": st.just(add_null_error),
    "usage": st.sampled_from(
        [
            report_usage_everywhere,
            report_usage_at_finish,
            report_usage_before_finish,
            report_no_usage,
        ]
    ),
    "trailer": _follow(),
    "done": st.sampled_from(
        [write_done(b"data: [DONE] "), write_done(DONE, DONE), write_done(b"data:[DONE]"), write_done()]
    ),
    "nothing": _insert(),
    "frame": _frame(),
    "end": st.one_of(_fail(), _break()),
}
"""Strategies of changes, by what they change, in the order in which they are made."""

WORDS = st.lists(st.sampled_from(["Ice", " is", " cold", ".", " \u00e9", ' "']), min_size=1, max_size=9)


@st.composite
def scripts(draw: st.DrawFn, kinds: Sequence[str] = tuple(CHANGES), plain: bool = True) -> Script:
    """Return an answer of some server. `kinds` are those of the changes that it may have."""
    script = openai_script(draw(WORDS))
    chosen = draw(st.sets(st.sampled_from(kinds)))
    for kind in sorted(chosen, key=list(CHANGES).index):
        script = draw(CHANGES[kind])(script)
    if plain and (script.is_whole or script.error) and draw(st.booleans()):
        return replace(script, is_plain=True, then="end")
    return script
