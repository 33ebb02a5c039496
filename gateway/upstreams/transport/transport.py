"""The interface between the gateway and HTTP servers, which tests replace."""

import json
import math
import os
import ssl
import time
from collections.abc import Mapping
from typing import Protocol


class TransportError(Exception):
    """A request failed, or its response could not be read.

    `why` is `down` (no connection), `timeout`, `lost` (the response broke off) or `garbage` (it is malformed).
    `before_response` is whether nothing of the response had arrived.
    """

    def __init__(self, why: str, message: str, *, before_response: bool) -> None:
        super().__init__(message)
        self.why = why
        self.before_response = before_response


def describe_os_error(error: BaseException | None) -> str:
    """Return why a connection failed or broke off, in the words of the system, not of Python."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate cannot be trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(getattr(error, 'reason', None) or 'unknown').replace('_', ' ').lower()}"
    if not isinstance(error, OSError):
        return "the connection was closed"
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error) or "the connection failed"


def quote(payload: bytes, most: int = 80) -> str:
    """Return the beginning of what a server sent, in quotes, for an error's text."""
    return json.dumps(payload[:most].decode(errors="replace"), ensure_ascii=False)


class Garbage(TransportError):
    """A response is malformed or too large."""

    def __init__(self, message: str) -> None:
        super().__init__("garbage", message, before_response=False)


MAX_BODY = 256 * 2**20
"""Maximum bytes of a response, streamed or whole, once it is decompressed. OpenAI's largest plain one (2048 embeddings
of 3072 numbers) has 140 MB."""

MAX_ANSWER = 64 * 2**20
"""Maximum bytes of an answer that is read whole. Its text takes several times that memory while it is parsed and sent
on."""

MAX_ERROR = 2**20
"""Maximum bytes of an error's body."""


class Response(Protocol):
    """A response whose head has arrived."""

    status: int

    @property
    def waited_s(self) -> float:
        """Seconds spent waiting for the body so far."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by name in lower case. The values of a repeated header are joined by commas."""
        ...

    async def read(self, limit: int = MAX_ANSWER) -> bytes:
        """Return the whole body. Raises TransportError, and Garbage for a body of more than `limit` bytes."""
        ...

    async def next(self, gap: float | None = None) -> bytes:
        """Return what has arrived of the body since the last call; wait if nothing has. Returns b"" at the end.

        `gap` overrides the maximum seconds to wait, for this call. Raises TransportError.
        """
        ...

    def close(self) -> None:
        """End the response. Before the body's end, this closes the connection, so that the server stops."""
        ...


def set_end(gap: float | None) -> float:
    """Return when a wait of `gap` seconds ends, on the monotonic clock; infinity for None."""
    return math.inf if gap is None else time.monotonic() + gap


def compute_gap(end: float) -> float | None:
    """Return the seconds until `end`; None for infinity. Raises TransportError if `end` is past.

    A body may come in pieces that say nothing. What reads until something is said bounds all these reads together.
    """
    if end == math.inf:
        return None
    if (left := end - time.monotonic()) <= 0:
        raise TransportError("timeout", "nothing more was said in time", before_response=False)
    return left


def too_large(limit: int) -> Garbage:
    return Garbage(f"the response is over the limit of {limit} bytes")


async def read_whole(response: Response, limit: int) -> bytes:
    """Return a response's whole body. Raises TransportError, and Garbage if it has more than `limit` bytes."""
    parts, size = [], 0
    while data := await response.next():
        size += len(data)
        if size > limit:
            raise too_large(limit)
        parts.append(data)
    return b"".join(parts)


class Transport(Protocol):
    """Sends requests to one server."""

    async def post(self, url: str, body: bytes, timeout_s: float) -> Response:
        """Send a request, and wait up to `timeout_s` seconds for the response's head. Raises TransportError."""
        ...

    async def close(self) -> None: ...
