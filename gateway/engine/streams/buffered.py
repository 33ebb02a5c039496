"""Reads a plain response whole into a draft."""

import orjson

from gateway.exchange.call import Call
from gateway.exchange.exchange import Exchange
from gateway.upstreams.transport.malformed import MISSHAPEN
from gateway.upstreams.transport.reported_error import check_answer
from gateway.upstreams.transport.transport import (
    MAX_ANSWER,
    MAX_BODY,
    Garbage,
    Response,
    TransportError,
    quote,
    too_large,
)
from gateway.wire.body_types import Body, Endpoint
from gateway.wire.chunks.tool_calls import may_hold_tool_calls, stringify_arguments
from gateway.wire.parsing.answers import read_answer
from gateway.wire.parsing.nesting import TooDeep
from gateway.wire.requests import find_answer_prefix
from gateway.wire.responses import assemble_response, finish_reason_of, strip_answer_prefix
from gateway.wire.sse import EventReader, is_json, payload_of
from routers.plan import Draft

from .attempt_reader import AttemptReader
from .chunks import Chunk, ChunkReader
from .end_grace import EndGrace


class BufferedResponse(AttemptReader):
    """Reads a plain response whole, and hands it to the sink."""

    async def read(self, response: Response) -> Draft:
        """Raises TransportError, LostRace."""
        prefix = ""
        if self.upstream.kind.echoes_prefill:
            prefix = find_answer_prefix(self.exchange.body.get("messages") or [])
        body, draft = await read_buffered(response, self.exchange, self.call, self.chunks, prefix)
        await self.sink.response(body)
        return self._conclude(draft)


async def read_buffered(
    response: Response, exchange: Exchange, call: Call, chunks: ChunkReader, prefix: str = ""
) -> tuple[bytes, Draft]:
    """Return a plain response's body and its draft. Raises TransportError.

    The body is as it came, apart from what `read_answer` mends, but without `prefix`, the beginning of the answer that
    some servers repeat, and with the arguments of tool calls as text. A stream that came instead is put together from
    its `chunks`.
    """
    limit = MAX_BODY if exchange.endpoint == "embeddings" else MAX_ANSWER
    raw = await _read_body(response, chunks, limit)
    call.ended = exchange.elapsed()
    try:
        data, body = read_answer(raw)
        check_answer(data)
        first = data["data" if exchange.endpoint == "embeddings" else "choices"][0]
        call.finish = finish_reason_of(first) or "stop"
        chunks.usage.read(data)
        written = sum(map(_estimate_tokens, data.get("choices") or ()))
        if prefix:
            body = orjson.dumps(strip_answer_prefix(data, prefix))
        if may_hold_tool_calls(body) and stringify_arguments(data.get("choices") or ()):
            body = orjson.dumps(data)
    except TooDeep as error:
        raise Garbage(f"the response: {error}") from error
    except MISSHAPEN as error:
        raise Garbage(f"the response is not what {exchange.endpoint} gives: {quote(raw)}") from error
    usage = chunks.usage.to_usage(call.prompt_tokens, written)
    return body, Draft(call.tier, finish=call.finish, usage=usage)


async def _read_body(response: Response, chunks: ChunkReader, limit: int) -> bytes:
    """Return a response's body as JSON, whatever its framing. A stream may go on after its end, so it is read apart."""
    if "event-stream" not in response.headers.get("content-type", ""):
        body = await response.read(limit)
        if is_json(body):
            return body
        return _join_chunks(_parse_whole(body, chunks), chunks) or body
    return _join_chunks(await _read_stream(response, chunks, limit), chunks)


def _parse_whole(body: bytes, chunks: ChunkReader) -> list[Chunk]:
    reader = EventReader(Garbage)
    payloads = [*reader.feed(body), payload_of(reader.flush())]
    return [chunk for payload in payloads if payload for chunk in chunks.parse(payload)]


async def _read_stream(response: Response, chunks: ChunkReader, limit: int) -> list[Chunk]:
    """Return a stream's chunks up to `[DONE]`. Raises TransportError."""
    reader, grace, gap, size = EventReader(Garbage), EndGrace(chunks), None, 0
    found: list[Chunk] = []
    try:
        while not chunks.is_done and (data := await response.next(gap)):
            size += len(data)
            if size > limit:
                raise too_large(limit)
            found += [chunk for payload in reader.feed(data) for chunk in chunks.parse(payload)]
            if chunks.has_ended:
                gap = grace.max_gap()
    except TransportError as error:
        grace.check_ended(error)
    last = payload_of(reader.flush())
    return [*found, *(chunks.parse(last) if last else ())]


def _join_chunks(parts: list[Chunk], chunks: ChunkReader) -> bytes:
    """Return a stream's chunks as one plain response; b"" if there are none. Raises TransportError if it broke off."""
    parts += chunks.end()
    if not parts:
        return b""
    if not chunks.has_ended:
        raise TransportError("lost", "the stream ended before the answer did", before_response=False)
    endpoint: Endpoint = "chat" if "delta" in parts[0].choice else "completions"
    response = assemble_response([chunk.body for chunk in parts], endpoint)
    usage: Body = chunks.usage.chunk or {}
    own = {"choices": response["choices"], "object": response["object"]}
    return orjson.dumps(response | usage | own)


def _estimate_tokens(choice: Body) -> int:
    """Estimate the tokens of a choice's texts: four characters a token, as for prompts, but at least one."""
    message = choice.get("message") or {}
    texts = (message.get("content") or choice.get("text"), message.get("reasoning_content"))
    return sum(max(1, len(text) // 4) for text in texts if text and isinstance(text, str))
