"""Bytes to an HTTP server and back: the one seam between us and the network."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import aiohttp


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

    async def read(self) -> bytes: ...

    def chunks(self) -> AsyncIterator[bytes]: ...

    def close(self) -> None: ...


class Transport(Protocol):
    async def post(self, url: str, body: bytes, headers: Mapping[str, str], wait: float) -> Response: ...

    async def close(self) -> None: ...


class HttpTransport:
    """aiohttp: a tenth of httpx's CPU per request. Follows no redirect, keeps no cookie.

    `connect` and `gap` (between two reads of a response) are time limits in seconds. `keep_alive` is off for
    servers that close connections they said they would keep.
    """

    def __init__(self, *, connect: float, gap: float, keep_alive: bool = True) -> None:
        self._connect = connect
        self._gap = gap
        self._keep_alive = keep_alive
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
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect),
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=2**18,
                skip_auto_headers=("User-Agent", "Accept"),
            )
        return self._session

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], wait: float) -> Response:
        """Sends the request and waits up to `wait` seconds for the response's head. Raises Broken."""
        try:
            async with asyncio.timeout(wait):
                response = await self._open().post(url, data=body, headers=headers, allow_redirects=False)
        except (TimeoutError, aiohttp.ServerTimeoutError) as error:
            raise Broken("timeout", f"no response within {wait:g} s", fresh=True) from error
        except aiohttp.ClientConnectorError as error:
            reason = error.os_error.strerror or str(error.os_error)
            raise Broken("down", f"cannot connect: {reason}", fresh=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Broken("lost", f"connection closed: {type(error).__name__}", fresh=True) from error
        return HttpResponse(response, self._gap)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


class HttpResponse:
    def __init__(self, response: aiohttp.ClientResponse, gap: float) -> None:
        self._response = response
        self._gap = gap
        self.status = response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    async def read(self) -> bytes:
        with _breaking():
            return await self._response.read()

    async def chunks(self) -> AsyncIterator[bytes]:
        """What each read of the socket brought."""
        content = self._response.content
        while True:
            with _breaking():
                async with asyncio.timeout(self._gap):
                    data = await content.readany()
            if not data:
                return
            yield data

    def close(self) -> None:
        """Returns the connection where the response was read to its end, else closes it: the server sees its
        client gone."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


@contextmanager
def _breaking() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise Broken("timeout", "the response stopped coming", fresh=False) from error
    except (aiohttp.ClientError, OSError) as error:
        raise Broken("lost", f"the response broke off: {type(error).__name__}", fresh=False) from error
