"""Decompresses responses: some servers compress without being asked to (RFC 9110, section 8.4)."""

import zlib
from collections.abc import Mapping

from .transport import (
    MAX_ANSWER,
    Response,
    TransportError,
    compute_gap,
    read_whole,
    set_end,
    too_large,
)

MAX_INFLATED_BYTES = 2**20
"""Maximum bytes that one piece is inflated to before its reader takes them."""

PIECE = 2**14
"""Bytes that zlib gets at once. It copies what it does not use, and a body may have many members."""

GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
BARE_DEFLATE = -zlib.MAX_WBITS


def decode_content(response: Response, coding: bytes, limit: int) -> Response:
    """Return the response with its content coding removed. `limit` is the maximum bytes of its inflated body.

    Raises TransportError for an unknown coding.
    """
    coding = coding.strip().lower()
    if coding in (b"identity", b""):
        return response
    if coding not in (b"gzip", b"x-gzip", b"deflate"):
        response.close()
        raise TransportError(
            "lost", f"the response is encoded as {coding.decode('latin-1')!r}", before_response=False
        )
    return InflatedResponse(response, limit)


class InflatedResponse:
    """A `Response` whose body is inflated as it arrives: gzip, zlib, or deflate without zlib's header.

    Some servers send the last as `deflate`.
    """

    def __init__(self, response: Response, limit: int) -> None:
        self.status = response.status
        self._limit = limit
        self._response = response
        self._zlib = zlib.decompressobj()
        self._has_begun = False
        self._compressed = b""
        self._at = 0
        self._has_more = False
        self._size = 0

    @property
    def waited_s(self) -> float:
        return self._response.waited_s

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    async def read(self, limit: int = MAX_ANSWER) -> bytes:
        return await read_whole(self, limit)

    async def next(self, gap: float | None = None) -> bytes:
        data, end = b"", set_end(gap)
        while not data:
            if not self._has_more:
                self._compressed, self._at = await self._response.next(compute_gap(end)), 0
                if not self._compressed:
                    return self._finish()
            data = self._inflate()
        self._size += len(data)
        if self._size > self._limit:
            raise too_large(self._limit)
        return data

    def close(self) -> None:
        self._response.close()

    def _inflate(self) -> bytes:
        """Inflate the next piece of `_compressed`, up to MAX_INFLATED_BYTES. Raises TransportError."""
        piece = self._compressed[self._at : self._at + PIECE]
        if not self._has_begun or self._zlib.eof:  # a gzip body may have several members
            self._zlib = zlib.decompressobj(choose_window_bits(piece[0]))
            self._has_begun = True
        try:
            data = self._zlib.decompress(piece, MAX_INFLATED_BYTES)
        except zlib.error as error:
            raise TransportError(
                "lost", "the response is not compressed as it says", before_response=False
            ) from error
        self._at += len(piece) - len(self._zlib.unconsumed_tail or self._zlib.unused_data)
        self._has_more = self._at < len(self._compressed) or (
            len(data) == MAX_INFLATED_BYTES and not self._zlib.eof
        )
        return data

    def _finish(self) -> bytes:
        if self._has_begun and not self._zlib.eof:
            raise TransportError("lost", "the compressed response broke off", before_response=False)
        return b""


def choose_window_bits(first: int) -> int:
    """Return zlib's `wbits` for a body by its first byte: gzip begins with 0x1f, zlib with a method of 8."""
    return GZIP_OR_ZLIB if first == 0x1F or first & 0x0F == 8 else BARE_DEFLATE
