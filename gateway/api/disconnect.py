"""Cancels the work for a client that disconnects."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from gateway.timers import Deadlines

from .request_body import ClientGone, Receive
from .writers import Reply

T = TypeVar("T")


async def run_while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`, for a request whose body has been read.

    Cancels the work and raises ClientGone if the client disconnects first.
    """

    async def wait_for_disconnect() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, disconnect = asyncio.ensure_future(work), asyncio.ensure_future(wait_for_disconnect())
    try:
        await asyncio.wait((task, disconnect), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        disconnect.cancel()
        task.cancel()


class DisconnectWatch:
    """Cancels the task that creates it when the client disconnects.

    Watching takes a task of its own, which is costly, and most requests end quickly. So it only begins after
    WATCH_AFTER_S.
    """

    def __init__(self, deadlines: Deadlines, reply: Reply, receive: Receive) -> None:
        self.is_gone = False
        self._task = asyncio.current_task()
        self._reply = reply
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None
        self._begins = deadlines.schedule(WATCH_AFTER_S, self._start_watching)

    def stop(self) -> None:
        self._begins.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
            # A finished task's traceback refers to this object, and so to the exchange, until garbage collection.
            self._watcher = None

    def _start_watching(self) -> None:
        self._watcher = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._task is not None and not self._reply.finished:
            self.is_gone = True
            self._task.cancel()


WATCH_AFTER_S = 0.03
"""Seconds after a request began before its client's connection is watched."""
