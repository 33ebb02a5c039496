"""Whether upstreams that nobody hears of are there: a GET that costs nothing finds out before a request does."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import aiohttp

from .upstream import Upstream

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds until a probe counts as missed."""


@asynccontextmanager
async def probing(upstreams: Iterable[Upstream]) -> AsyncIterator[None]:
    """While entered, looks at each upstream: at once, and then while it is down or has answered no call for as
    long as its settings say."""
    limit = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(timeout=limit, cookie_jar=aiohttp.DummyCookieJar()) as session:
        tasks = [
            asyncio.create_task(_look(upstream, session), name=f"probes of {upstream.name}")
            for upstream in upstreams
            if upstream.probe.every
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _look(upstream: Upstream, session: aiohttp.ClientSession) -> None:
    every = upstream.probe.every
    while True:
        if not upstream.up or upstream.quiet(every):
            before = upstream.up
            upstream.probed(await _is_there(upstream, session))
            if upstream.up != before:
                log.warning("%s is %s, says a probe", upstream.name, "up" if upstream.up else "down")
        await asyncio.sleep(every)


async def _is_there(upstream: Upstream, session: aiohttp.ClientSession) -> bool:
    """Any answer but a failure of the server's own: a wrong key is for the calls to find."""
    url, headers, _ = upstream.probe
    try:
        async with session.get(url, headers=headers, allow_redirects=False) as response:
            return response.status < 500
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False
