"""Probes idle or failing upstreams with a free GET, so that an outage is noticed before a request meets
it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from urllib.parse import urljoin

from .transport.http_client import HttpTransport
from .transport.transport import TransportError
from .upstream import Upstream

log = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 5.0
"""Seconds after which a probe counts as missed."""
SCRAPE_TIMEOUT_S = 2.0
"""Seconds that a server may take to return its metrics. After that, our metrics are served without them."""


@asynccontextmanager
async def run_probes(upstreams: Iterable[Upstream]) -> AsyncIterator[None]:
    """Probe each upstream in the background until the context exits.

    The first probe is immediate. Later ones run only if the upstream is down or has answered no call for as
    long as its probe interval.
    """
    tasks = [
        asyncio.create_task(_probe_repeatedly(upstream), name=f"probes of {upstream.name}")
        for upstream in upstreams
        if upstream.probe.interval_s
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _probe_repeatedly(upstream: Upstream) -> None:
    url, headers, interval_s = upstream.probe
    client = HttpTransport(url, headers, connect=PROBE_TIMEOUT_S, gap=PROBE_TIMEOUT_S, keep_alive=False)
    while True:
        if not upstream.is_up or upstream.is_silent_for(interval_s):
            was_up = upstream.is_up
            upstream.record_probe(await _is_alive(client, url))
            if upstream.is_up != was_up:
                log.warning("%s is %s, says a probe", upstream.name, "up" if upstream.is_up else "down")
        await asyncio.sleep(interval_s)


async def _is_alive(client: HttpTransport, url: str) -> bool:
    """Return whether the server answers with a status below 500. Only calls detect a wrong key."""
    try:
        response = await client.get(url, PROBE_TIMEOUT_S)
    except TransportError:
        return False
    response.close()
    return response.status < 500


async def fetch_metrics(upstream: Upstream) -> str:
    """Return a server's metrics in the Prometheus text format. Raises TransportError, TimeoutError or
    ValueError."""
    url = urljoin(upstream.probe.url, "metrics")
    client = HttpTransport(
        url, upstream.probe.headers, connect=SCRAPE_TIMEOUT_S, gap=SCRAPE_TIMEOUT_S, keep_alive=False
    )
    try:
        async with asyncio.timeout(SCRAPE_TIMEOUT_S):
            response = await client.get(url, SCRAPE_TIMEOUT_S)
            return (await response.read()).decode()
    finally:
        await client.close()
