"""How a plain response becomes a draft: taken whole."""

import time

import orjson

from gateway.exchange.exchange import Call, Exchange
from gateway.upstreams.transport.malformed import MISSHAPEN
from gateway.upstreams.transport.transport import Garbage, Response
from gateway.wire.body_types import Body
from gateway.wire.responses import strip_answer_prefix, usage_of
from routers.plan import Draft, Usage


async def read_buffered(
    response: Response, exchange: Exchange, call: Call, echoed: str = ""
) -> tuple[bytes, Draft]:
    """A plain response, its body unchanged but for the begun answer that its server repeats, `echoed`. Raises
    Broken."""
    began = time.perf_counter()
    try:
        body = await response.read()
    finally:
        exchange.upstream_wait_s += time.perf_counter() - began
    call.ended = exchange.elapsed()
    try:
        data = orjson.loads(body)
        first = data["data" if exchange.endpoint == "embeddings" else "choices"][0]
        call.finish = first.get("finish_reason") or "stop"
        usage = usage_of(data) or _estimate_usage(call, first)
        if echoed:
            body = orjson.dumps(strip_answer_prefix(data, echoed))
    except MISSHAPEN as error:
        raise Garbage(f"the response is not what {exchange.endpoint} gives: {body[:80]!r}") from error
    return body, Draft(call.tier, finish=call.finish, usage=usage)


def _estimate_usage(call: Call, choice: Body) -> Usage:
    """For a response that reports no usage: four characters a token, as for prompts."""
    text = (choice.get("message") or {}).get("content") or choice.get("text") or ""
    return Usage(call.prompt_tokens, len(text) // 4, estimated=True)
