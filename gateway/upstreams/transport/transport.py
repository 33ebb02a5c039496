"""Bytes to an HTTP server and back: the one seam between us and the network."""

from collections.abc import Mapping
from typing import Protocol


class TransportError(Exception):
    """The exchange of bytes failed. `why`: `down` (no connection), `timeout`, `lost` (it broke off), or
    `garbage` (it is no answer). `before_response`: nothing of a response had arrived."""

    def __init__(self, why: str, message: str, *, before_response: bool) -> None:
        super().__init__(message)
        self.why = why
        self.before_response = before_response


class Garbage(TransportError):
    """A response that is no answer."""

    def __init__(self, message: str) -> None:
        super().__init__("garbage", message, before_response=False)


class Response(Protocol):
    status: int

    @property
    def waited_s(self) -> float:
        """Seconds spent waiting for the body so far."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """By name in lower case; the values of a repeated one are joined by commas."""
        ...

    async def read(self) -> bytes:
        """Return the whole body. Raises TransportError, and Garbage if it is too large."""
        ...

    async def next(self, gap: float | None = None) -> bytes:
        """All of the body that has arrived since the last call, or the next to arrive; nothing at its end. `gap`
        overrides for this call how many seconds it may take. Raises TransportError."""
        ...

    def close(self) -> None:
        """Before the body's end, the server sees its client gone."""
        ...


MAX_BODY = 256 * 2**20
"""Bytes of a response that is read whole: OpenAI's largest, 2048 embeddings of 3072 numbers, has some 140 million."""


def too_large(limit: int) -> Garbage:
    return Garbage(f"the response is over the limit of {limit} bytes")


async def read_whole(response: Response, limit: int) -> bytes:
    """Return all of a response's body. Raises TransportError, and Garbage for more than `limit` bytes."""
    parts, size = [], 0
    while data := await response.next():
        size += len(data)
        if size > limit:
            raise too_large(limit)
        parts.append(data)
    return b"".join(parts)


class Transport(Protocol):
    async def post(self, url: str, body: bytes, timeout_s: float) -> Response:
        """Send the request and wait up to `timeout_s` for the response's head. Raises TransportError."""
        ...

    async def close(self) -> None: ...
