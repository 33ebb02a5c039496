"""A large model that can score, in miniature, and a small one that drafts for it: servers on loopback that speak as
vLLM's does, over bytes and some words, so that characters fall apart and one text has many spellings."""

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web
from support.scripted_server import Reply, Scripted

END = 256
WORDS = (" the", " sea", " is", "the", " th", "e ", " é", "\n\n", " wide", " deep")
VOCABULARY: list[bytes] = [
    *(bytes([byte]) for byte in range(256)),
    b"<|end|>",
    *(word.encode() for word in WORDS),
]
CONTEXT = 4096


def cut(text: bytes) -> list[int]:
    """The longest token that fits, again and again, as a tokenizer would."""
    ids = []
    while text:
        best = max((id_ for id_ in range(len(VOCABULARY)) if text.startswith(VOCABULARY[id_])), key=_length)
        ids.append(best)
        text = text[len(VOCABULARY[best]) :]
    return ids


def _length(id_: int) -> int:
    return len(VOCABULARY[id_])


def joined(ids: Sequence[int]) -> bytes:
    return b"".join(VOCABULARY[id_] for id_ in ids)


class ToyVllm(Scripted):
    """At temperature 0 it writes `truth`, spelling it its own way: every third token is a single byte."""

    truth = "The sea is wide, the sea is deep: é\n\nthe end 🌊."
    fails: str | None = None
    """A page that answers 500."""
    fails_after = 0
    """Calls of it that are answered before."""
    hangs: str | None = None
    """A page that is not answered, after as many calls; `holding` is set then."""

    def own(self, after: Sequence[int]) -> int:
        """Its greedy choice after tokens of an answer."""
        written, truth = joined(after), self.truth.encode()
        if not truth.startswith(written):
            return ord("?")
        rest = truth[len(written) :]
        if not rest:
            return END
        return rest[0] if len(after) % 3 == 2 else cut(rest)[0]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/chat/completions"):
            self.script = [Reply(self.truth)]
            return await super().answer(request)
        body = await request.json()
        page = request.path.rpartition("/")[2]
        self.paths.append(request.path)
        if page == self.fails and self.paths.count(request.path) > self.fails_after:
            return web.json_response({"error": {"message": "it is broken"}}, status=500)
        self.requests.append(body)
        if page == self.hangs and self.paths.count(request.path) > self.fails_after:
            self.holding.set()
            await asyncio.Event().wait()
        if page == "completions":
            return await self._completed(request, body)
        return web.json_response(self._tokenized(body) if page == "tokenize" else self._text(body))

    def _tokenized(self, body: dict[str, Any]) -> dict[str, Any]:
        template = "".join(f"<{one['role']}>{one['content']}" for one in body.get("messages", ()))
        text = f"{template}<assistant>" if template else body["prompt"]
        return {"tokens": cut(text.encode()), "count": 0, "max_model_len": CONTEXT}

    def _text(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"prompt": joined(body["tokens"]).decode(errors="replace")}

    async def _completed(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        ids = list(body["prompt"]) if isinstance(body["prompt"], list) else cut(body["prompt"].encode())
        after = self._answer_in(ids)
        if body.get("stream"):
            return await self._going_on(request, body, after)
        forced = body.get("allowed_token_ids")
        own = forced[0] if forced else self.own(after)
        choice: dict[str, Any] = {
            "index": 0,
            "text": "",
            "token_ids": [own],
            "finish_reason": "stop" if own == END else "length",
            "logprobs": {"tokens": ["x"], "token_logprobs": [-0.25], "top_logprobs": [{}]},
        }
        if body.get("prompt_logprobs") is not None:
            start = len(ids) - len(after)
            choice["prompt_logprobs"] = [
                None if not at else self._place(ids[at], self.own(ids[start:at]) if at >= start else ids[at])
                for at in range(len(ids))
            ]
        usage = {"prompt_tokens": len(ids), "completion_tokens": 1, "total_tokens": len(ids) + 1}
        whole = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": self.name}
        return web.json_response(whole | {"choices": [choice], "usage": usage})

    @staticmethod
    def _answer_in(ids: list[int]) -> list[int]:
        """What stands after the template's end, which is cut alike every time."""
        mark = cut(b"<assistant>")
        found = [at for at in range(len(ids)) if ids[at : at + len(mark)] == mark]
        return ids[found[-1] + len(mark) :] if found else []

    @staticmethod
    def _place(id_: int, own: int) -> dict[str, Any]:
        def entry(one: int, logprob: float, rank: int) -> dict[str, Any]:
            text = VOCABULARY[one].decode(errors="replace")
            return {"logprob": logprob, "rank": rank, "decoded_token": text}

        if id_ == own:
            return {str(id_): entry(id_, -0.1, 1)}
        return {str(id_): entry(id_, -4.0, 9), str(own): entry(own, -0.1, 1)}

    async def _going_on(
        self, request: web.Request, body: dict[str, Any], after: list[int]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        written, shown, finish = list(after), joined(after).decode(errors="ignore"), "length"
        for _ in range(body["max_tokens"]):
            if (own := self.own(written)) == END:
                finish = "stop"
                break
            written.append(own)
            text = joined(written).decode(errors="ignore")
            await self._event(response, [self._chunk_choice(text.removeprefix(shown), None)])
            shown = text
        await self._event(response, [self._chunk_choice("", finish)])
        count = len(written) - len(after) + (finish == "stop")
        await self._event(response, [], {"prompt_tokens": len(after), "completion_tokens": count})
        await response.write(b"data: [DONE]\n\n")
        return response

    @staticmethod
    def _chunk_choice(text: str, finish: str | None) -> dict[str, Any]:
        logprobs = {"tokens": [text], "token_logprobs": [-0.1], "top_logprobs": [{}]} if text else None
        return {"index": 0, "text": text, "finish_reason": finish, "logprobs": logprobs}

    async def _event(
        self, response: web.StreamResponse, choices: list[Any], usage: dict[str, int] | None = None
    ) -> None:
        chunk = {"id": "cmpl-2", "object": "text_completion", "created": 1, "model": self.name}
        more = {"usage": usage} if usage else {}
        await response.write(f"data: {json.dumps(chunk | {'choices': choices} | more)}\n\n".encode())


class Drafter(Scripted):
    """Goes on from any beginning as `drafts` says, as far as it may write."""

    drafts: Callable[[str], str]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if "messages" in body:
            last = body["messages"][-1]
            begun = last["content"] if last["role"] == "assistant" else ""
        else:
            begun = body["prompt"].rpartition("<assistant>")[2]
        rest = self.drafts(begun)
        words = re.findall(r"\s*\S+|\s+$", rest)
        most = body.get("max_tokens") or body.get("max_completion_tokens") or len(words)
        finish = "length" if most < len(words) else "stop"
        self.script = [Reply("".join(words[:most]), finish=finish)]
        return await super().answer(request)
