"""Reads a plain response whole into a draft."""

import orjson

from gateway.exchange.call import Call
from gateway.exchange.exchange import Exchange
from gateway.upstreams.transport.malformed import MISSHAPEN
from gateway.upstreams.transport.transport import MAX_ANSWER, MAX_BODY, Garbage, Response
from gateway.wire.body_types import Body
from gateway.wire.chunks.tool_calls import may_hold_tool_calls, stringify_arguments
from gateway.wire.nesting import TooDeep, read_json
from gateway.wire.requests import find_answer_prefix
from gateway.wire.responses import strip_answer_prefix, usage_of
from routers.plan import Draft, Usage

from .attempt_reader import AttemptReader


class BufferedResponse(AttemptReader):
    """Reads a plain response whole, and hands it to the sink."""

    async def read(self, response: Response) -> Draft:
        """Raises TransportError, LostRace."""
        prefix = ""
        if self.upstream.kind.echoes_prefill:
            prefix = find_answer_prefix(self.exchange.body.get("messages") or [])
        body, draft = await read_buffered(response, self.exchange, self.call, prefix)
        await self.sink.response(body)
        return self._conclude(draft)


async def read_buffered(
    response: Response, exchange: Exchange, call: Call, prefix: str = ""
) -> tuple[bytes, Draft]:
    """Return a plain response's body and its draft. Raises TransportError.

    The body is unchanged, but without `prefix`, the beginning of the answer that some servers repeat, and with the
    arguments of tool calls as text.
    """
    body = await response.read(MAX_BODY if exchange.endpoint == "embeddings" else MAX_ANSWER)
    call.ended = exchange.elapsed()
    try:
        data = read_json(body)
        first = data["data" if exchange.endpoint == "embeddings" else "choices"][0]
        call.finish = first.get("finish_reason") or "stop"
        usage = usage_of(data) or _estimate_usage(call, first)
        if prefix:
            body = orjson.dumps(strip_answer_prefix(data, prefix))
        if may_hold_tool_calls(body) and stringify_arguments(data.get("choices") or ()):
            body = orjson.dumps(data)
    except TooDeep as error:
        raise Garbage(f"the response: {error}") from error
    except MISSHAPEN as error:
        raise Garbage(f"the response is not what {exchange.endpoint} gives: {body[:80]!r}") from error
    return body, Draft(call.tier, finish=call.finish, usage=usage)


def _estimate_usage(call: Call, choice: Body) -> Usage:
    """Estimate the usage of a response that reports none: four characters a token, as for prompts."""
    text = (choice.get("message") or {}).get("content") or choice.get("text") or ""
    return Usage(call.prompt_tokens, len(text) // 4, estimated=True)
