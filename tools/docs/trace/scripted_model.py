"""A model that says what it is told to, a word at a time: for pages that show the gateway at work."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

PACE = 0.004
"""Seconds between two words."""


@asynccontextmanager
async def scripted(text: str, logprob: float) -> AsyncIterator[str]:
    """The base URL of a server that streams `text` to whoever asks; each word has the log-probability given."""
    events = list(_events(text, logprob))

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            await asyncio.sleep(PACE)
            await response.write(b"data: %b\n\n" % event)
        return response

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/v1"
    finally:
        await runner.cleanup()


def _events(text: str, logprob: float) -> Iterator[bytes]:
    head, *rest = text.split(" ")
    words = [head, *(f" {word}" for word in rest)]
    yield _chunk([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
    for word in words:
        scored = {"content": [_scored(word, logprob)]}
        yield _chunk([{"index": 0, "delta": {"content": word}, "logprobs": scored, "finish_reason": None}])
    yield _chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    count = len(words)
    usage = {"prompt_tokens": 12, "completion_tokens": count, "total_tokens": 12 + count}
    yield _chunk([], usage=usage)
    yield b"[DONE]"


def _scored(word: str, logprob: float) -> dict[str, Any]:
    """A word and alternatives that are nearly as likely."""
    others = [{"token": f"or{place}", "logprob": logprob - 0.2 * place} for place in range(1, 5)]
    chosen = {"token": word, "logprob": logprob}
    return {**chosen, "top_logprobs": [chosen, *others]}


def _chunk(choices: list[Any], **more: Any) -> bytes:
    kind = "chat.completion.chunk"
    return json.dumps(
        {"id": "1", "object": kind, "created": 1, "choices": choices, **more}, separators=(",", ":")
    ).encode()
