"""Whether upstreams that nobody hears of are there: a GET that costs nothing finds out before a request does."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from urllib.parse import urljoin

from .transport.http11 import HttpTransport
from .transport.transport import Broken
from .upstream import Upstream

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds until a probe counts as missed."""
SCRAPE_PATIENCE = 2.0
"""Seconds that a server may take to show its metrics; ours are then shown without its."""


@asynccontextmanager
async def probing(upstreams: Iterable[Upstream]) -> AsyncIterator[None]:
    """While entered, looks at each upstream: at once, and then while it is down or has answered no call for as
    long as its settings say."""
    tasks = [
        asyncio.create_task(_look(upstream), name=f"probes of {upstream.name}")
        for upstream in upstreams
        if upstream.probe.every
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _look(upstream: Upstream) -> None:
    url, headers, every = upstream.probe
    client = HttpTransport(url, headers, connect=PATIENCE, gap=PATIENCE, keep_alive=False)
    while True:
        if not upstream.up or upstream.quiet(every):
            before = upstream.up
            upstream.probed(await _is_there(client, url))
            if upstream.up != before:
                log.warning("%s is %s, says a probe", upstream.name, "up" if upstream.up else "down")
        await asyncio.sleep(every)


async def _is_there(client: HttpTransport, url: str) -> bool:
    """Any answer but a failure of the server's own: a wrong key is for the calls to find."""
    try:
        response = await client.get(url, PATIENCE)
    except Broken:
        return False
    response.close()
    return response.status < 500


async def exposition(upstream: Upstream) -> str:
    """A server's metrics in the text format. Raises Broken, TimeoutError or ValueError."""
    url = urljoin(upstream.probe.url, "metrics")
    client = HttpTransport(
        url, upstream.probe.headers, connect=SCRAPE_PATIENCE, gap=SCRAPE_PATIENCE, keep_alive=False
    )
    try:
        async with asyncio.timeout(SCRAPE_PATIENCE):
            response = await client.get(url, SCRAPE_PATIENCE)
            return (await response.read()).decode()
    finally:
        await client.close()
