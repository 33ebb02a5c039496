"""The stub's replies as bytes, built once: OpenAI-shaped, with llama.cpp's fields for log-probabilities."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

LAST_TOKEN = " finally."
"""The last token of every reply: a client that sees it has seen the whole text."""

_BEGINNINGS = ("re", "con", "in", "per", "ad", "sub", "trans")
_ENDINGS = (
    "late",
    "form",
    "vert",
    "sist",
    "port",
    "mit",
    "cede",
    "fer",
    "ply",
    "duce",
    "pose",
    "vise",
    "cur",
    "gress",
)
_OTHERS = (" one", " some", " this", " it")
_CREATED = 1_700_000_000
_MODEL = "stub"
_PROMPT_TOKENS = 48


def tokens(count: int) -> list[str]:
    """`count` tokens, the last of which is `LAST_TOKEN`. No two in a row of 98 are alike: a text that repeats itself
    would be told from a good one."""
    words = [f" {begin}{end}" for end in _ENDINGS for begin in _BEGINNINGS]
    return [words[i % len(words)] for i in range(count - 1)] + [LAST_TOKEN]


def _entry(number: int, token: str, logprob: float) -> dict[str, Any]:
    return {"id": number, "token": token, "bytes": list(token.encode()), "logprob": logprob}


def _logprob(number: int, token: str) -> dict[str, Any]:
    """A confident token: itself and four alternatives far behind."""
    chosen = _entry(1000 + number, token, -0.008 - 0.0004 * (number % 11))
    others = [_entry(500 + i, text, -4.25 - 0.75 * i) for i, text in enumerate(_OTHERS)]
    return {**chosen, "top_logprobs": [dict(chosen), *others]}


def _usage(count: int) -> dict[str, int]:
    return {
        "prompt_tokens": _PROMPT_TOKENS,
        "completion_tokens": count,
        "total_tokens": _PROMPT_TOKENS + count,
    }


def _chunk(choices: list[dict[str, Any]], **more: Any) -> bytes:
    """One event in its own HTTP chunk, as llama.cpp, vLLM and OpenAI send it."""
    body = {
        "id": "chatcmpl-stub",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": _MODEL,
        "choices": choices,
        **more,
    }
    return _http_chunk(b"data: " + _json(body) + b"\n\n")


def _choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def head(status: bytes, kind: bytes, length: int | None) -> bytes:
    """A response's head; without a length, the body is chunked."""
    size = b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length
    return b"HTTP/1.1 %s\r\ncontent-type: %s\r\n%s\r\n\r\n" % (status, kind, size)


def json_reply(value: object, status: bytes = b"200 OK") -> bytes:
    """A whole JSON response."""
    body = _json(value)
    return head(status, b"application/json", len(body)) + body


def _completion(words: list[str], logprobs: bool) -> bytes:
    content = [_logprob(i, token) for i, token in enumerate(words)]
    return json_reply(
        {
            "id": "chatcmpl-stub",
            "object": "chat.completion",
            "created": _CREATED,
            "model": _MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "".join(words).lstrip()},
                    "logprobs": {"content": content} if logprobs else None,
                    "finish_reason": "stop",
                }
            ],
            "usage": _usage(len(words)),
        }
    )


def _events(words: list[str], logprobs: bool, usage: bool) -> list[bytes]:
    """A stream's events: the first carries the response's head, the last ends the body."""
    first = head(b"200 OK", b"text/event-stream", None)
    events = [first + _chunk([_choice({"role": "assistant", "content": ""})])]
    for number, token in enumerate(words):
        choice = _choice({"content": token})
        if logprobs:
            choice["logprobs"] = {"content": [_logprob(number, token)]}
        events.append(_chunk([choice]))
    events.append(_chunk([_choice({}, "stop")]))
    if usage:
        events.append(_chunk([], usage=_usage(len(words))))
    events.append(_http_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
    return events


@dataclass(frozen=True)
class Replies:
    """Every reply the stub gives, by what the request asked for."""

    plain: dict[bool, bytes]
    """By logprobs."""
    streams: dict[tuple[bool, bool], list[bytes]]
    """By (logprobs, usage)."""


def build(count: int) -> Replies:
    """The replies of `count` tokens each."""
    words = tokens(count)
    flags = (False, True)
    return Replies(
        plain={asked: _completion(words, asked) for asked in flags},
        streams={(asked, usage): _events(words, asked, usage) for asked in flags for usage in flags},
    )
