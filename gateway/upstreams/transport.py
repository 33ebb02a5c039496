"""Bytes to an HTTP server and back: the one seam between us and the network."""

import asyncio
import io
import math
from collections.abc import Mapping
from typing import Protocol

import aiohttp
from yarl import URL

from gateway.deadlines import Deadline, Deadlines

LARGE = 2**20
"""Bytes from which aiohttp wants to read a body piece by piece."""


class Broken(Exception):
    """The exchange of bytes failed. `why`: `down` (no connection), `timeout`, or `lost` (it broke off).
    `fresh`: nothing of a response had arrived."""

    def __init__(self, why: str, message: str, *, fresh: bool) -> None:
        super().__init__(message)
        self.why = why
        self.fresh = fresh


class Response(Protocol):
    status: int

    @property
    def headers(self) -> Mapping[str, str]: ...

    async def read(self) -> bytes:
        """The whole body. Raises Broken."""
        ...

    async def next(self, gap: float | None = None) -> bytes:
        """What the next read of the socket brings; nothing at the body's end. `gap` overrides for this read how
        many seconds it may take. Raises Broken."""
        ...

    def close(self) -> None: ...


class Transport(Protocol):
    async def post(self, url: URL, body: bytes, wait: float) -> Response: ...

    async def close(self) -> None: ...


class HttpTransport:
    """aiohttp: a tenth of httpx's CPU per request. Follows no redirect, keeps no cookie.

    `headers` go with every request. `connect` and `gap` (between two reads of a response) are time limits in
    seconds. `keep_alive` is off for servers that close connections they said they would keep.
    """

    def __init__(
        self, headers: Mapping[str, str], *, connect: float, gap: float, keep_alive: bool = True
    ) -> None:
        self._headers = headers
        self._connect = connect
        self._gap = gap
        self._keep_alive = keep_alive
        self._deadlines = Deadlines()
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = (
                aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
                if self._keep_alive
                else aiohttp.TCPConnector(limit=0, force_close=True)
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect),
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=2**18,
            )
        return self._session

    async def post(self, url: URL, body: bytes, wait: float) -> Response:
        """Sends the request and waits up to `wait` seconds for the response's head. Raises Broken."""
        limit = _Limit(self._deadlines, wait)
        try:
            data = body if len(body) < LARGE else io.BytesIO(body)
            response = await self._open().post(url, data=data, allow_redirects=False)
        except asyncio.CancelledError as error:
            if limit.reached:
                raise Broken("timeout", f"no response within {wait:g} s", fresh=True) from error
            raise
        except aiohttp.ServerTimeoutError as error:
            raise Broken("timeout", f"no connection within {self._connect:g} s", fresh=True) from error
        except aiohttp.ClientConnectorError as error:
            reason = error.os_error.strerror or str(error.os_error)
            raise Broken("down", f"cannot connect: {reason}", fresh=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Broken("lost", f"connection closed: {type(error).__name__}", fresh=True) from error
        finally:
            limit.end()
        return HttpResponse(response, self._deadlines, self._gap)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


class _Limit:
    """asyncio.timeout at a fraction of its cost: cancels the task it is made in after `seconds`."""

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._task = asyncio.current_task()
        self._fired = False
        self._deadline = deadlines.after(seconds, self._fire)

    def _fire(self) -> None:
        self._fired = True
        if self._task is not None:
            self._task.cancel()

    @property
    def reached(self) -> bool:
        """Whether it was this limit that cancelled, and nobody else: then the task goes on."""
        return self._fired and self._task is not None and self._task.uncancel() == 0

    def end(self) -> None:
        self._deadline.cancel()


class HttpResponse:
    def __init__(self, response: aiohttp.ClientResponse, deadlines: Deadlines, gap: float) -> None:
        self._response = response
        self._content = response.content
        self._gap = gap
        self._deadlines = deadlines
        self._silence: Deadline | None = None
        self.status = response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    async def read(self) -> bytes:
        content = self._content
        if content.is_eof() and content.exception() is None:
            return content.read_nowait(-1)  # it came with the head, as short responses do
        parts = []
        while data := await self.next():
            parts.append(data)
        return b"".join(parts)

    async def next(self, gap: float | None = None) -> bytes:
        if self._silence is None:
            self._silence = self._deadlines.after(self._gap, self._break)
        self._silence.postpone(gap or self._gap)
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise _broken(error) from error
        finally:
            self._silence.due = math.inf  # between reads it is us, or a slow client, that is waited for

    def _break(self) -> None:
        self._content.set_exception(TimeoutError())

    def close(self) -> None:
        """Returns the connection where the response was read to its end, else closes it: the server sees its
        client gone."""
        if self._silence is not None:
            self._silence.cancel()
        if self._content.at_eof():
            self._response.release()
        else:
            self._response.close()


def _broken(error: Exception) -> Broken:
    if isinstance(error, TimeoutError):
        return Broken("timeout", "the response stopped coming", fresh=False)
    return Broken("lost", f"the response broke off: {type(error).__name__}", fresh=False)
