"""Opens connections to an origin: resolves its name, races its addresses, and adds TLS for https."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from functools import cache, partial
from itertools import chain, zip_longest

from .connection import Connection
from .origin import Origin
from .transport import TransportError, describe_os_error

HEAD_START_S = 0.25
"""Seconds before the next address is tried concurrently (RFC 8305, section 5)."""

Attempt = Callable[[], Awaitable[Connection]]


@cache
def load_tls_context() -> ssl.SSLContext:
    """Return a context that verifies servers by the system's certificates, read once a process as it takes
    milliseconds."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


async def dial(
    new_connection: Callable[[], Connection], origin: Origin, tls: ssl.SSLContext | None, timeout_s: float
) -> Connection:
    """Return a connection from `new_connection`, established with its TLS within `timeout_s`. Raises
    TransportError."""
    try:
        async with asyncio.timeout(timeout_s) as timeout:
            return await _resolve_and_connect(new_connection, origin, tls)
    except OSError as error:  # includes TimeoutError, whether ours or the operating system's
        if timeout.expired():
            raise TransportError(
                "timeout", f"no connection within {timeout_s:g} s", before_response=True
            ) from error
        raise TransportError(
            "down", f"cannot connect: {describe_os_error(error)}", before_response=True
        ) from error


async def _resolve_and_connect(
    new_connection: Callable[[], Connection], origin: Origin, tls: ssl.SSLContext | None
) -> Connection:
    loop = asyncio.get_running_loop()

    async def connect(address: str) -> Connection:
        name = origin.host if tls is not None else None
        connection = new_connection()
        try:
            await loop.create_connection(
                lambda: connection, address, origin.port, ssl=tls, server_hostname=name
            )
        except BaseException:
            connection.abandon()
            raise
        return connection

    if _is_address(origin.host):
        return await connect(origin.host)
    infos = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    addresses = interleave_families((family, str(where[0])) for family, _, _, _, where in infos)
    return await connect_first([partial(connect, address) for address in addresses])


@cache
def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def interleave_families(resolved: Iterable[tuple[int, str]]) -> list[str]:
    """Return the addresses, given as (family, address) by preference, with their families interleaved (RFC
    8305, section 4)."""
    families: dict[int, list[str]] = {}
    for family, address in resolved:
        families.setdefault(family, []).append(address)
    return [address for address in chain(*zip_longest(*families.values())) if address is not None]


async def connect_first(attempts: Iterable[Attempt]) -> Connection:
    """Return the first connection that is established.

    Each attempt starts HEAD_START_S after the one before, or as soon as that one fails. Raises the last
    attempt's error if all fail.
    """
    waiting = list(attempts)
    running: set[asyncio.Task[Connection]] = set()
    error: BaseException | None = None
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.ensure_future(waiting.pop(0)()))
            head_start = HEAD_START_S if waiting else None
            done, _ = await asyncio.wait(running, timeout=head_start, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                running.discard(task)
                if (error := task.exception()) is None:
                    return task.result()
    finally:
        for task in running:
            task.cancel()
            task.add_done_callback(_close_late_connection)
    raise error or OSError("the host has no address")


def _close_late_connection(task: asyncio.Task[Connection]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()
