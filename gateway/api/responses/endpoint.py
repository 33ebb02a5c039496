"""POST /v1/responses: a chat completion in the shapes of the Responses API."""

from typing import Any

import orjson

from gateway.api.generation import GenerationEndpoint
from gateway.api.writers import Reply, Send
from gateway.exchange.exchange import Exchange
from gateway.wire.body_types import Body

from .history import History
from .request import to_chat
from .tools import list_left_out
from .writers import ResponseReply, ResponseStream


class ResponsesEndpoint(GenerationEndpoint):
    """Translates requests to chat's, and writes the answers as responses. `history` keeps them for later turns."""

    def __init__(self, history: History, **parts: Any) -> None:
        super().__init__(**parts)
        self._history = history

    async def _open(self, body: Body, raw: bytes, send: Send) -> tuple[Exchange, Reply]:
        request = await self._history.resolve_references(body)
        chat = to_chat(request, await self._history.read_conversation(request))
        self._surface.check(chat)
        exchange = await self._build_exchange(chat, orjson.dumps(chat))
        exchange.left_out = list_left_out(request)
        request["store"] = self._history.can_keep(request, exchange)
        if exchange.request.stream:
            stream = ResponseStream(send, exchange, request, self._history, self._heartbeat, self._deadlines)
            return exchange, stream
        return exchange, ResponseReply(send, exchange, request, self._history)
