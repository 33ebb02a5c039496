"""A small model on loopback that tells the log-probabilities of what it reads, as vLLM's server does."""

import asyncio
import re
import zlib
from typing import Any

from aiohttp import web
from support.scripted_server import Scripted

from gateway.upstreams.providers.token_bytes import BYTE_LEVEL_ALPHABET

LETTERS = {byte: letter for letter, byte in BYTE_LEVEL_ALPHABET.items()}


class ReaderVllm(Scripted):
    """Its tokens are at most five letters long, and as surprising as their text makes them. `reads` are the texts that
    it has scored; while there is a `gate`, it waits for that first."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.reads: list[str] = []
        self.gate: asyncio.Event | None = None
        self.status = 200
        self._tokens: list[str] = []
        self._ids: dict[str, int] = {}

    def tokens(self, text: str) -> int:
        return len(self._cut(text))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        page = request.path.rpartition("/")[2]
        if request.path.endswith("/chat/completions"):
            return await super().answer(request)
        body = await request.json()
        self.arrived.set()
        if self.status != 200:
            return web.json_response({"error": {"message": "broken"}}, status=self.status)
        if page == "tokenize":
            ids = self._cut(body["prompt"])
            return web.json_response({"tokens": ids, "token_strs": [self._entry(id_) for id_ in ids]})
        if self.gate is not None:
            self.holding.set()
            await self.gate.wait()
        ids = body["prompt"]
        self.reads.append("".join(self._tokens[id_] for id_ in ids))
        places: list[Any] = [None, *({str(id_): {"logprob": self._logprob(id_)}} for id_ in ids[1:])]
        choice = {"index": 0, "text": "", "finish_reason": "length", "prompt_logprobs": places}
        usage = {"prompt_tokens": len(ids), "completion_tokens": 1, "total_tokens": len(ids) + 1}
        return web.json_response({"id": "r", "choices": [choice], "usage": usage})

    def _cut(self, text: str) -> list[int]:
        found = []
        for token in re.findall(r"\s?\S{1,5}|\s", text):
            if token not in self._ids:
                self._ids[token] = len(self._tokens)
                self._tokens.append(token)
            found.append(self._ids[token])
        return found

    def _entry(self, id_: int) -> str:
        return "".join(LETTERS[byte] for byte in self._tokens[id_].encode())

    def _logprob(self, id_: int) -> float:
        return -(zlib.crc32(self._tokens[id_].strip().encode()) % 997) / 100
