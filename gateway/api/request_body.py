"""Reads a request's body, decompresses it, and parses its JSON object."""

import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from gateway.errors import ApiError, invalid
from gateway.upstreams.transport.content_coding import choose_window_bits
from gateway.wire.body_types import Body
from gateway.wire.parsing.nesting import TooDeep, read_json
from gateway.wire.parsing.odd_json import repair_surrogates
from gateway.wire.validation import type_name

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Scope = MutableMapping[str, Any]

JSON = b"application/json"
CODINGS = (b"gzip", b"x-gzip", b"deflate")
MAX_MEMBERS = 64
"""Maximum members of a gzip body. Each takes a copy of the rest."""


class ClientGone(Exception):
    """The client disconnected before its request was read or answered."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Return the request's body, decompressed.

    Raises ApiError if the body is not sent as JSON or has more than `limit` bytes, ClientGone if the client left.
    """
    headers = dict(scope["headers"])
    if (content_type := headers.get(b"content-type", b"")) != JSON:
        _check_json(content_type)
    body = await _receive_body(receive, limit)
    coding = headers.get(b"content-encoding")
    return body if coding is None else _decompress(body, coding, limit)


def _check_json(content_type: bytes) -> None:
    """Raise ApiError unless a media type is JSON's. Others are what a web page may send without asking first."""
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type == JSON or media_type.endswith(b"+json"):
        return
    sent = f"not {media_type.decode('latin-1')!r}" if media_type else "and this request has no content type"
    what = f"the body must be sent with the header Content-Type: application/json, {sent}"
    raise ApiError(415, "unsupported_media_type", what)


async def _receive_body(receive: Receive, limit: int) -> bytes:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        parts, size = [body], len(body)
        while message.get("more_body") and size <= limit:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
        body = b"".join(parts)
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _decompress(body: bytes, coding: bytes, limit: int) -> bytes:
    """Return the body without its content coding, of which the limit holds too. Raises ApiError."""
    coding = coding.strip().lower()
    if coding in (b"", b"identity") or not body:
        return body
    if coding not in CODINGS:
        what = f"the body's Content-Encoding is {coding.decode('latin-1')!r}; expected gzip or deflate"
        raise ApiError(415, "unsupported_media_type", what)
    try:
        return _inflate(body, limit)
    except zlib.error as error:
        what = f"the body is not compressed as its Content-Encoding says: {error}"
        raise invalid(what, code="invalid_json") from error


def _inflate(body: bytes, limit: int) -> bytes:
    """Return what a gzip or zlib body, or one of bare deflate, inflates to. Raises zlib.error, ApiError."""
    parts, size = [], 0
    for _ in range(MAX_MEMBERS):
        inflater = zlib.decompressobj(choose_window_bits(body[0]))
        parts.append(inflater.decompress(body, limit + 1 - size))
        size += len(parts[-1])
        if size > limit:
            raise _too_large(limit)
        if not inflater.eof:
            raise zlib.error("it breaks off")
        body = inflater.unused_data
        if not body:
            return b"".join(parts)
    raise zlib.error(f"it has over {MAX_MEMBERS} members")


def _too_large(limit: int) -> ApiError:
    return ApiError(413, "body_too_large", f"the request body is over the limit of {limit} bytes")


def parse_body(raw: bytes) -> Body:
    """Return the JSON object in `raw`. Raises ApiError if it is none, or is nested too deeply."""
    return parse_request(raw)[0]


def parse_request(raw: bytes) -> tuple[Body, bytes]:
    """Return the JSON object in `raw`, and its bytes: those that came, unless a lone half of a surrogate pair had to be
    replaced, which many servers refuse. Raises ApiError like `parse_body`."""
    try:
        body = read_json(raw)
    except orjson.JSONDecodeError as error:
        if (repaired := repair_surrogates(raw)) != raw:
            return parse_request(repaired)
        raise invalid(f"the request body is not valid JSON: {error}", code="invalid_json") from error
    except TooDeep as error:
        raise invalid(str(error), error.field) from error
    if not isinstance(body, dict):
        raise invalid(f"the request body must be a JSON object, not {type_name(body)}", code="invalid_json")
    return body, raw
