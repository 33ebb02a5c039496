"""The latest responses of the Responses API, with their inputs, for later turns that refer to them."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from .settings import ResponseSettings


class KeptResponse(NamedTuple):
    """A response as JSON, and when it expires, on the store's clock."""

    data: bytes
    expires_at: float


class ResponseStore:
    """Keeps JSON by response id, in this process. Only the least recently used and the expired are dropped.

    All methods are coroutines and all values bytes, so that a server that several replicas share can do the same.
    """

    def __init__(self, settings: ResponseSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_enabled = settings.count > 0
        self.bytes = 0
        self._settings = settings
        self._seconds = settings.minutes * 60
        self._clock = clock
        self._by_id: OrderedDict[str, KeptResponse] = OrderedDict()
        self._expiry: asyncio.TimerHandle | None = None

    async def add(self, response_id: str, data: bytes) -> None:
        """Keep `data`. What alone exceeds the bound on bytes is not kept."""
        self._remove(response_id)
        if not self.is_enabled or len(data) > self._settings.bytes:
            return
        self._by_id[response_id] = KeptResponse(data, self._clock() + self._seconds)
        self.bytes += len(data)
        while len(self._by_id) > self._settings.count or self.bytes > self._settings.bytes:
            self._remove(next(iter(self._by_id)))
        self._schedule_expiry()

    async def get(self, response_id: str) -> bytes | None:
        """Return the kept bytes, whose time then begins anew. None if there are none."""
        self._drop_expired()
        kept = self._by_id.get(response_id)
        if kept is None:
            return None
        self._by_id[response_id] = kept._replace(expires_at=self._clock() + self._seconds)
        self._by_id.move_to_end(response_id)
        return kept.data

    async def delete(self, response_id: str) -> bool:
        """Drop a response. Return whether it was kept."""
        self._drop_expired()
        return self._remove(response_id)

    def _remove(self, response_id: str) -> bool:
        kept = self._by_id.pop(response_id, None)
        if kept is not None:
            self.bytes -= len(kept.data)
        return kept is not None

    def _drop_expired(self) -> None:
        """Drop what has expired. Use renews both time and place, so the first to expire are first in order."""
        now = self._clock()
        while self._by_id and next(iter(self._by_id.values())).expires_at <= now:
            self._remove(next(iter(self._by_id)))

    def _schedule_expiry(self) -> None:
        """Let texts leave the memory in time, also where nobody asks any more."""
        if self._expiry is None:
            self._expiry = asyncio.get_running_loop().call_later(self._seconds, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        self._drop_expired()
        if self._by_id:
            self._schedule_expiry()
