"""Work for a client that may go away meanwhile."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from gateway.timers import Deadlines

from .request_body import ClientGone, Receive
from .writers import Reply

T = TypeVar("T")


async def run_while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives, for a request whose body has been read; a client that goes away cancels it. Raises
    ClientGone."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        leaving.cancel()
        task.cancel()


class DisconnectWatch:
    """Cancels the task it is made in when its client goes away. Most requests are over before a client could
    leave, so the watching begins a little later: a task of its own costs more than the rest of the watch."""

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
            self._watcher = (
                None  # its error's traceback holds us, and with us the exchange, until a collection
            )

    def _start_watching(self) -> None:
        self._watcher = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._task is not None and not self._reply.finished:
            self.is_gone = True
            self._task.cancel()


WATCH_AFTER_S = 0.03
"""Seconds into a request at which its client's leaving begins to be watched for."""
