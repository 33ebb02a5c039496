"""A scripted OpenAI-compatible server on loopback: the paid cloud's double, and a small model whose
log-probabilities a test chooses."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
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
    """A body's bytes as they are, whatever was asked for; then the connection ends as `then` says: "end", "abort",
    "hang", or "drip": it goes on with comments."""
    then: str = "end"
    cuts: Sequence[int] = ()
    """Places at which `raw` is cut into writes."""
    rest: bytes = b""
    """What follows `raw` once the gate is open."""
    extra: dict[str, Any] = field(default_factory=dict)
    separator: str = " "
    """Between tokens; any other than a space is no part of the text."""
    calls: Sequence[tuple[str, str]] = ()
    """Tools that are called, each with its arguments: instead of the text."""
    reasoning: str = ""
    """What a model thinks before its text, sent as `reasoning_content`."""
    gap: float = 3.0
    """Nats between a word and its first alternative."""

    @property
    def words(self) -> list[str]:
        """The tokens: of the text, or of the calls' arguments."""
        if self.calls:
            return [piece for _, arguments in self.calls for piece in pieces(arguments)]
        if self.separator != " ":
            return self.text.split(self.separator)
        head, *rest = self.text.split(" ")
        return [head, *(f" {word}" for word in rest)] if self.text else []

    @property
    def ends(self) -> str:
        return "tool_calls" if self.calls and self.finish == "stop" else self.finish

    @property
    def message(self) -> dict[str, Any]:
        thought = {"reasoning_content": self.reasoning} if self.reasoning else {}
        if not self.calls:
            return {"role": "assistant", "content": self.text} | thought
        return {"role": "assistant", "content": None, "tool_calls": [*self._whole_calls()]} | thought

    def _whole_calls(self) -> Iterator[dict[str, Any]]:
        for number, (name, arguments) in enumerate(self.calls):
            function = {"name": name, "arguments": arguments}
            yield {"id": f"call_{number}", "type": "function", "function": function}

    def deltas(self) -> Iterator[tuple[dict[str, Any], str]]:
        """What each chunk of a chat stream adds, and its token: an empty one where it brings none."""
        yield {"role": "assistant", "content": None if self.calls else ""}, ""
        for word in self.reasoning.split():
            yield {"reasoning_content": f"{word} "}, f"{word} "
        for number, (name, arguments) in enumerate(self.calls):
            begun = {"name": name, "arguments": ""}
            yield (
                {
                    "tool_calls": [
                        {"index": number, "id": f"call_{number}", "type": "function", "function": begun}
                    ]
                },
                "",
            )
            for piece in pieces(arguments):
                yield {"tool_calls": [{"index": number, "function": {"arguments": piece}}]}, piece
        for word in () if self.calls else self.words:
            yield {"content": word}, word

    def logprob(self, index: int) -> float:
        return self.logprobs if isinstance(self.logprobs, int | float) else self.logprobs[index]


def pieces(arguments: str) -> list[str]:
    """JSON as a tokenizer might cut it."""
    return re.findall(r"\w+|\W+", arguments)


NO_LOGPROBS = Reply(
    status=400,
    body={
        "error": {
            "code": 400,
            "message": "logprobs is not supported with tools + stream",
            "type": "invalid_request_error",
        }
    },
)
"""What llama.cpp's server says."""


class Scripted:
    """Answers from `script`, in order; the last reply is repeated. `holding` is set when a reply waits for its gate,
    `gone` when a client went away, at `gone_at` on the loop's clock. A GET is answered with the status `health`, and
    its path kept in `looks`.

    With `llamacpp` it does what llama.cpp's server does otherwise than OpenAI's. Its chat template shows tools if
    `shows_tools`; what it is asked about the template is no request of a client, and kept in `looks`.
    """

    llamacpp = False
    shows_tools = True

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
        self.holding = asyncio.Event()
        self.gone = asyncio.Event()
        self.gone_at = 0.0
        self.arrived = asyncio.Event()

    def says(self, *replies: Reply | str) -> None:
        self.script = [Reply(reply) if isinstance(reply, str) else reply for reply in replies]

    def forget(self) -> None:
        """Is as it began."""
        self.script = [Reply()]
        for kept in (self.requests, self.headers, self.paths, self.queries, self.looks):
            kept.clear()
        for event in (self.holding, self.gone, self.arrived):
            event.clear()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if self.llamacpp and request.path == "/apply-template":
            self.looks.append(request.path)
            return web.json_response(
                {"prompt": json.dumps([body["messages"], self.shows_tools and body.get("tools")])}
            )
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        self.paths.append(request.path)
        self.queries.append(dict(request.query))
        self.arrived.set()
        reply = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if self.llamacpp and body.get("stream") and body.get("tools") and body.get("logprobs"):
            reply = NO_LOGPROBS
        if reply.body is not None or reply.status != 200:
            return self._fixed(reply)
        try:
            if body.get("stream") or reply.raw is not None:
                return await self._stream(request, body, reply)
            await self._hold(reply)
            return self._plain(request, body, reply)
        except (asyncio.CancelledError, ConnectionResetError):
            self.gone_at = asyncio.get_running_loop().time()
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
        whole = {
            "id": "up-1",
            "object": "chat.completion",
            "created": 1,
            "model": self.name,
            "choices": [self._choice(request, body, reply, index) for index in range(body.get("n") or 1)],
        }
        if reply.usage:
            whole["usage"] = usage_of(reply)
        return web.json_response(whole | reply.extra, headers=reply.headers)

    def _choice(self, request: web.Request, body: dict[str, Any], reply: Reply, index: int) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": index, "finish_reason": reply.ends}
        if not request.path.endswith("/chat/completions"):
            return choice | {"text": reply.text}
        message = reply.message
        if self.llamacpp and body["messages"][-1]["role"] == "assistant":
            message["content"] = f"{body['messages'][-1]['content']}{reply.text}"
        if body.get("logprobs"):
            most = body.get("top_logprobs") or 0
            each = [
                logprobs_of(word, reply.logprob(at), reply.gap, most) for at, word in enumerate(reply.words)
            ]
            choice["logprobs"] = {"content": [entry for one in each for entry in one["content"]]}
        return choice | {"message": message}

    async def _stream(self, request: web.Request, body: dict[str, Any], reply: Reply) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": reply.content_type, **reply.headers})
        await response.prepare(request)
        chat = request.path.endswith("/chat/completions")
        if reply.raw is not None:
            return await self._raw(request, response, reply)
        parts = reply.deltas() if chat else ((word, word) for word in reply.words)
        asked = (body.get("logprobs") or body.get("n_probs")) and not reply.without_logprobs
        most = body.get("n_probs") or body.get("top_logprobs") or (0 if chat else 5)
        index = 0
        for part, token in parts:
            if not token:
                await self._send(response, reply, part, None, chat=chat)
                continue
            if index == reply.gate_at:
                await self._hold(reply)
            if reply.cut_at == index:
                assert request.transport is not None
                request.transport.abort()
                return response
            logprobs = logprobs_of(token, reply.logprob(index), reply.gap, most) if asked else None
            await self._send(response, reply, part, logprobs, chat=chat)
            index += 1
        await self._send(response, reply, {} if chat else "", None, chat=chat, finish=reply.ends)
        if reply.usage and (body.get("stream_options") or {}).get("include_usage"):
            chunk = self._chunk([], chat=chat) | {"usage": usage_of(reply)}
            await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _hold(self, reply: Reply) -> None:
        if reply.gate is not None:
            self.holding.set()
            await reply.gate.wait()

    async def _raw(
        self, request: web.Request, response: web.StreamResponse, reply: Reply
    ) -> web.StreamResponse:
        assert reply.raw is not None
        places = [0, *sorted(reply.cuts), len(reply.raw)]
        for begin, end in pairwise(places):
            await response.write(reply.raw[begin:end])
            await asyncio.sleep(0)
        if reply.rest:
            await self._hold(reply)
            await response.write(reply.rest)
        if reply.then == "abort":
            assert request.transport is not None
            request.transport.abort()
        while reply.then == "drip":
            await response.write(b": still here\n\n")
            await asyncio.sleep(0.01)
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


def logprobs_of(word: str, logprob: float, gap: float = 3.0, most: int = 5) -> dict[str, Any]:
    """The chosen word and four alternatives, or the `most` likeliest of these, in OpenAI's shape."""
    tops = [{"token": word, "logprob": logprob, "bytes": list(word.encode())}]
    tops += [{"token": f"alt{i}", "logprob": logprob - gap - i, "bytes": []} for i in range(4)]
    return {"content": [{**tops[0], "top_logprobs": tops[:most]}]}


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
