"""What servers send in answer to a chat request, written by hand, and what is right."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
    choices: int = 1
    """How often each chunk is sent, and so the whole answer: once for each choice."""
    endpoint: str = "chat"
    """`chat`, or `completions`, where a chunk has a text instead of a delta."""

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
        blocks = [block for event in self.events for block in self._encode_event(event)]
        stream = b"".join(block + b"\n\n" for block in blocks)
        return stream.replace(b"\n", self.line_end)

    def _encode_event(self, event: Event) -> list[bytes]:
        if isinstance(event, bytes):
            return [event]
        if event.get("object") and self.endpoint == "completions":
            event = event | {"object": "text_completion"}
        chunks = [event]
        if event["choices"]:
            (choice,) = event["choices"]
            chunks = [
                event | {"choices": [self._shape_choice(choice) | {"index": index}]}
                for index in range(self.choices)
            ]
        return [b"data: " + self._write(chunk).encode() for chunk in chunks]

    def _shape_choice(self, choice: Body) -> Body:
        """Return a choice as the endpoint has it."""
        if self.endpoint == "chat":
            return choice
        text = choice["delta"].get("content") or ""
        if isinstance(text, list):
            text = "".join(part["text"] for part in text)
        rest = {name: value for name, value in choice.items() if name not in ("delta", "logprobs")}
        return {**rest, "text": text}

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
        chat = self.endpoint == "chat"
        choice: Body = {"message": message} if chat else {"text": self.text}
        whole = {
            "id": "up-1",
            "object": "chat.completion" if chat else "text_completion",
            "created": 1,
            "model": "m",
            "choices": [
                {"index": index, **choice, "finish_reason": self.finish} for index in range(self.choices)
            ],
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


# Errors that end the answer.

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
