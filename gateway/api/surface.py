"""How each generation endpoint is spoken: what its requests mean to the engine, and how its answers look."""

from collections.abc import Callable
from typing import NamedTuple

import orjson

from gateway.exchange.exchange import Exchange
from gateway.timers import Deadlines
from gateway.wire.body_types import Body, Endpoint
from gateway.wire.validation import check_chat, check_completions, check_embeddings

from .responses.request import to_chat
from .responses.writers import ResponseReply, ResponseStream
from .writers import PlainReply, Reply, Send, StreamReply


class Surface(NamedTuple):
    """`name` is for metrics and records, `endpoint` the one of upstreams that answers. `check` raises ApiError for
    a body that we can't act on; `translate` makes of another API's body one that it can check."""

    name: str
    endpoint: Endpoint
    check: Callable[[Body], None]
    translate: Callable[[Body], Body] | None = None

    def read(self, asked: Body, raw: bytes) -> tuple[Body, bytes]:
        """The request as the endpoint takes it, and its bytes. Raises ApiError."""
        body = asked if self.translate is None else self.translate(asked)
        self.check(body)
        return body, raw if self.translate is None else orjson.dumps(body)

    def reply(
        self, send: Send, exchange: Exchange, asked: Body, heartbeat: float, deadlines: Deadlines
    ) -> Reply:
        if self.translate is None:
            if exchange.request.stream:
                return StreamReply(send, exchange, heartbeat, deadlines)
            return PlainReply(send, exchange)
        if exchange.request.stream:
            return ResponseStream(send, exchange, asked, heartbeat, deadlines)
        return ResponseReply(send, exchange, asked)


SURFACES = {
    "/v1/chat/completions": Surface("chat", "chat", check_chat),
    "/v1/completions": Surface("completions", "completions", check_completions),
    "/v1/embeddings": Surface("embeddings", "embeddings", check_embeddings),
    "/v1/responses": Surface("responses", "chat", check_chat, to_chat),
}
"""By path."""
