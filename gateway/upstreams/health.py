"""Probes idle or failing upstreams with a free GET, so that an outage is noticed before a request meets
it."""

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
"""Seconds after which a probe counts as missed."""
SCRAPE_PATIENCE = 2.0
"""Seconds that a server may take to return its metrics. After that, our metrics are served without them."""


@asynccontextmanager
async def probing(upstreams: Iterable[Upstream]) -> AsyncIterator[None]:
    """Probe each upstream in the background until the context exits.

    The first probe is immediate. Later ones run only if the upstream is down or has answered no call for as
    long as its probe interval.
    """
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
    """Return whether the server answers with a status below 500. Only calls detect a wrong key."""
    try:
        response = await client.get(url, PATIENCE)
    except Broken:
        return False
    response.close()
    return response.status < 500


async def exposition(upstream: Upstream) -> str:
    """Return a server's metrics in the Prometheus text format. Raises TransportError, TimeoutError or
    ValueError."""
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
