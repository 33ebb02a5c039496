"""A scripted OpenAI-compatible server on loopback: the paid cloud's double, and a small model whose
log-probabilities a test chooses."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web


@dataclass
class Reply:
    """One scripted answer. `logprobs` is one value for every word, or one a word; `gate` holds the stream back
    before word number `gate_at`; `cut_at` closes the connection before that word."""

    text: str = "It is cold."
    logprobs: float | Sequence[float] = -0.01
    finish: str = "stop"
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    gate: asyncio.Event | None = None
    gate_at: int = 0
    cut_at: int | None = None
    usage: bool = True
    without_logprobs: bool = False
    content_type: str = "text/event-stream"
    raw: bytes | None = None
    """A stream's bytes as they are; then the connection ends as `then` says: "end", "abort" or "hang"."""
    then: str = "end"
    extra: dict[str, Any] = field(default_factory=dict)
    separator: str = " "
    """Between tokens; any other than a space is no part of the text."""

    @property
    def words(self) -> list[str]:
        if self.separator != " ":
            return self.text.split(self.separator)
        head, *rest = self.text.split(" ")
        return [head, *(f" {word}" for word in rest)] if self.text else []

    def logprob(self, index: int) -> float:
        return self.logprobs if isinstance(self.logprobs, int | float) else self.logprobs[index]


class Scripted:
    """Answers from `script`, in order; the last reply is repeated. `gone` is set when a client went away. A GET is
    answered with the status `health`, and its path kept in `looks`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.url = ""
        self.script: list[Reply] = [Reply()]
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.queries: list[dict[str, str]] = []
        self.health = 200
        self.looks: list[str] = []
        self.gone = asyncio.Event()
        self.arrived = asyncio.Event()

    def says(self, *replies: Reply | str) -> None:
        self.script = [Reply(reply) if isinstance(reply, str) else reply for reply in replies]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        self.paths.append(request.path)
        self.queries.append(dict(request.query))
        self.arrived.set()
        reply = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if reply.body is not None or reply.status != 200:
            return self._fixed(reply)
        try:
            if body.get("stream"):
                return await self._stream(request, body, reply)
            if reply.gate is not None:
                await reply.gate.wait()
            return self._plain(request, body, reply)
        except (asyncio.CancelledError, ConnectionResetError):
            self.gone.set()
            raise

    async def look(self, request: web.Request) -> web.Response:
        self.looks.append(request.path)
        return web.json_response({}, status=self.health)

    def _fixed(self, reply: Reply) -> web.Response:
        body = reply.body if reply.body is not None else {"error": {"message": f"scripted {reply.status}"}}
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(
            text=text, status=reply.status, headers=reply.headers, content_type="application/json"
        )

    def _plain(self, request: web.Request, body: dict[str, Any], reply: Reply) -> web.Response:
        if request.path.endswith("/embeddings"):
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}]
            usage = {"prompt_tokens": 3, "total_tokens": 3}
            return web.json_response({"object": "list", "data": data, "model": self.name, "usage": usage})
        choice: dict[str, Any] = {"index": 0, "finish_reason": reply.finish}
        if request.path.endswith("/chat/completions"):
            choice["message"] = {"role": "assistant", "content": reply.text}
        else:
            choice["text"] = reply.text
        whole = {
            "id": "up-1",
            "object": "chat.completion",
            "created": 1,
            "model": self.name,
            "choices": [choice],
        }
        if reply.usage:
            whole["usage"] = usage_of(reply)
        return web.json_response(whole | reply.extra, headers=reply.headers)

    async def _stream(self, request: web.Request, body: dict[str, Any], reply: Reply) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": reply.content_type, **reply.headers})
        await response.prepare(request)
        chat = request.path.endswith("/chat/completions")
        if reply.raw is not None:
            return await self._raw(request, response, reply)
        if chat:
            await self._send(response, reply, {"role": "assistant", "content": ""}, None, chat=True)
        for index, word in enumerate(reply.words):
            if reply.gate is not None and index == reply.gate_at:
                await reply.gate.wait()
            if reply.cut_at == index:
                assert request.transport is not None
                request.transport.abort()
                return response
            asked = body.get("logprobs") and not reply.without_logprobs
            logprobs = logprobs_of(word, reply.logprob(index)) if asked else None
            await self._send(response, reply, {"content": word} if chat else word, logprobs, chat=chat)
        await self._send(response, reply, {} if chat else "", None, chat=chat, finish=reply.finish)
        if reply.usage and (body.get("stream_options") or {}).get("include_usage"):
            chunk = self._chunk([], chat=chat) | {"usage": usage_of(reply)}
            await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _raw(
        self, request: web.Request, response: web.StreamResponse, reply: Reply
    ) -> web.StreamResponse:
        assert reply.raw is not None
        await response.write(reply.raw)
        if reply.then == "abort":
            assert request.transport is not None
            request.transport.abort()
        if reply.then == "hang":
            await asyncio.Event().wait()
        return response

    async def _send(
        self,
        response: web.StreamResponse,
        reply: Reply,
        part: Any,
        logprobs: Any,
        *,
        chat: bool,
        finish: str | None = None,
    ) -> None:
        choice = {"index": 0, "finish_reason": finish, ("delta" if chat else "text"): part}
        if logprobs is not None:
            choice["logprobs"] = logprobs
        await response.write(
            f"data: {json.dumps(self._chunk([choice], chat=chat) | reply.extra)}\n\n".encode()
        )

    def _chunk(self, choices: list[Any], *, chat: bool) -> dict[str, Any]:
        kind = "chat.completion.chunk" if chat else "text_completion"
        return {"id": "up-1", "object": kind, "created": 1, "model": self.name, "choices": choices}


def usage_of(reply: Reply) -> dict[str, int]:
    count = len(reply.words)
    return {"prompt_tokens": 10, "completion_tokens": count, "total_tokens": 10 + count}


def logprobs_of(word: str, logprob: float) -> dict[str, Any]:
    """The chosen word and four alternatives, in OpenAI's shape."""
    tops = [{"token": word, "logprob": logprob, "bytes": list(word.encode())}]
    tops += [{"token": f"alt{i}", "logprob": logprob - 3.0 - i, "bytes": []} for i in range(4)]
    return {"content": [{**tops[0], "top_logprobs": tops}]}


S = TypeVar("S", bound=Scripted)


@asynccontextmanager
async def scripted(name: str, kind: type[S] = Scripted) -> AsyncIterator[S]:  # type: ignore[assignment]
    """Runs a scripted server while entered."""
    server = kind(name)
    app = web.Application()
    app.router.add_post("/{path:.*}", server.answer)
    app.router.add_get("/{path:.*}", server.look)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.02)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()
