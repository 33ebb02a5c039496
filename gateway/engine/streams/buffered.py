"""Reads a plain response whole into a draft."""

import orjson

from gateway.exchange.call import Call
from gateway.exchange.exchange import Exchange
from gateway.upstreams.transport.malformed import MISSHAPEN
from gateway.upstreams.transport.transport import MAX_ANSWER, MAX_BODY, Garbage, Response
from gateway.wire.body_types import Body
from gateway.wire.chunks.tool_calls import may_hold_tool_calls, stringify_arguments
from gateway.wire.parsing.answers import read_answer
from gateway.wire.parsing.nesting import TooDeep
from gateway.wire.parsing.usage import UsageReader
from gateway.wire.requests import find_answer_prefix
from gateway.wire.responses import strip_answer_prefix
from routers.plan import Draft

from .attempt_reader import AttemptReader


class BufferedResponse(AttemptReader):
    """Reads a plain response whole, and hands it to the sink."""

    async def read(self, response: Response) -> Draft:
        """Raises TransportError, LostRace."""
        prefix = ""
        if self.upstream.kind.echoes_prefill:
            prefix = find_answer_prefix(self.exchange.body.get("messages") or [])
        body, draft = await read_buffered(response, self.exchange, self.call, self.usage, prefix)
        await self.sink.response(body)
        return self._conclude(draft)


async def read_buffered(
    response: Response, exchange: Exchange, call: Call, usage: UsageReader, prefix: str = ""
) -> tuple[bytes, Draft]:
    """Return a plain response's body and its draft. Raises TransportError.

    The body is as it came, apart from what `read_answer` mends, but without `prefix`, the beginning of the answer that
    some servers repeat, and with the arguments of tool calls as text.
    """
    raw = await response.read(MAX_BODY if exchange.endpoint == "embeddings" else MAX_ANSWER)
    call.ended = exchange.elapsed()
    try:
        data, body = read_answer(raw)
        first = data["data" if exchange.endpoint == "embeddings" else "choices"][0]
        call.finish = first.get("finish_reason") or "stop"
        usage.read(data)
        written = sum(map(_estimate_tokens, data.get("choices") or ()))
        if prefix:
            body = orjson.dumps(strip_answer_prefix(data, prefix))
        if may_hold_tool_calls(body) and stringify_arguments(data.get("choices") or ()):
            body = orjson.dumps(data)
    except TooDeep as error:
        raise Garbage(f"the response: {error}") from error
    except MISSHAPEN as error:
        raise Garbage(f"the response is not what {exchange.endpoint} gives: {raw[:80]!r}") from error
    return body, Draft(call.tier, finish=call.finish, usage=usage.to_usage(call.prompt_tokens, written))


def _estimate_tokens(choice: Body) -> int:
    """Estimate the tokens of a choice's texts: four characters a token, as for prompts, but at least one."""
    message = choice.get("message") or {}
    texts = (message.get("content") or choice.get("text"), message.get("reasoning_content"))
    return sum(max(1, len(text) // 4) for text in texts if text and isinstance(text, str))
