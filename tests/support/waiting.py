"""Waiting for what is to come: on conditions, never for a time."""

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds after which it does not come. A machine that is shared stands still for several, now and then; but after 60
between two reads a gateway closes by itself the connection that a test waits for it to close."""


async def soon(coming: Awaitable[T], patience: float = PATIENCE) -> T:
    return await asyncio.wait_for(coming, patience)


async def until(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """What the condition, which may be awaited, gives once that is true."""
    async with asyncio.timeout(patience):
        while True:
            found = condition()
            if isawaitable(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.001)
