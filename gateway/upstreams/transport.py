"""Bytes to an HTTP server and back: the one seam between us and the network."""

from collections.abc import Mapping
from typing import Protocol


class Broken(Exception):
    """The exchange of bytes failed. `why`: `down` (no connection), `timeout`, `lost` (it broke off), or
    `garbage` (it is no answer). `fresh`: nothing of a response had arrived."""

    def __init__(self, why: str, message: str, *, fresh: bool) -> None:
        super().__init__(message)
        self.why = why
        self.fresh = fresh


class Response(Protocol):
    status: int

    @property
    def headers(self) -> Mapping[str, str]:
        """By name in lower case; the values of a repeated one are joined by commas."""
        ...

    async def read(self) -> bytes:
        """The whole body. Raises Broken."""
        ...

    async def next(self, gap: float | None = None) -> bytes:
        """All of the body that has arrived since the last call, or the next to arrive; nothing at its end. `gap`
        overrides for this call how many seconds it may take. Raises Broken."""
        ...

    def close(self) -> None:
        """Before the body's end, the server sees its client gone."""
        ...


class Transport(Protocol):
    async def post(self, url: str, body: bytes, wait: float) -> Response:
        """Sends the request and waits up to `wait` seconds for the response's head. Raises Broken."""
        ...

    async def close(self) -> None: ...
