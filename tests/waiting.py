"""Waiting for what is to come: on conditions, never for a time."""

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds after which it does not come: a machine that is shared stands still for several, now and then."""


async def soon(coming: Awaitable[T]) -> T:
    return await asyncio.wait_for(coming, PATIENCE)


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
