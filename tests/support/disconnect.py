"""How long a server works on for a client that has left."""

import asyncio
from collections.abc import Awaitable, Callable
from statistics import median

from support.scripted_server import Scripted
from support.waiting import PATIENCE

MOST = 0.1
"""Seconds from a client's leaving to where its upstream sees it gone."""


async def freed(
    ask: Callable[[], Awaitable[object]],
    say: Callable[[asyncio.Event], None],
    *servers: Scripted,
    tries: int = 5,
) -> float:
    """Seconds, the median of several tries, from where who asks is cancelled in the midst of an answer to where the
    last of the servers that were writing sees its client gone.

    `say` scripts the servers, with a gate that never opens. Any one try may be held up by whatever else the machine
    does: hence the median.
    """
    took = []
    for _ in range(tries):
        for server in servers:
            server.forget()
        say(asyncio.Event())
        asking = asyncio.ensure_future(ask())
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(server.holding.wait() for server in servers))
            left = asyncio.get_running_loop().time()
            asking.cancel()
            await asyncio.gather(*(server.gone.wait() for server in servers))
        took.append(max(server.gone_at for server in servers) - left)
        await asyncio.wait([asking])
    return median(took)
