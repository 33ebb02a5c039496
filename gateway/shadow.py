"""Shadows: a second exchange under another policy, for the records only. Nobody gets its answer."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping

from gateway.exchange import Exchange
from gateway.http.reply import PlainReply, to_nobody
from gateway.prompt import measured
from policies.schema import Policy, Shadow
from routers.plan import NO_FEATURES

log = logging.getLogger(__name__)

MOST_AT_ONCE = 8
"""Shadows under way; further ones are left out: real requests come first."""

HOUR = 3600.0

Run = Callable[[Exchange, PlainReply], Awaitable[None]]


class Shadows:
    """Follows exchanges that are over with shadows, as their policies ask."""

    def __init__(self, run: Run, policies: Callable[[], Mapping[str, Policy]]) -> None:
        self._run = run
        self._policies = policies
        self._tasks: set[asyncio.Task[None]] = set()
        self._spent: dict[str, tuple[float, float]] = {}

    def follow(self, exchange: Exchange) -> None:
        """Perhaps begins a shadow of an answered exchange."""
        wanted = exchange.policy.shadow
        if wanted is None or exchange.answer is None or len(self._tasks) >= MOST_AT_ONCE:
            return
        target = self._policies().get(wanted.policy)
        drawn = random.random() < wanted.share  # noqa: S311  no secret
        if target is None or not drawn or not self._affordable(exchange.policy.name, wanted):
            return
        task = asyncio.ensure_future(self._shadow(exchange, target, wanted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _shadow(self, exchange: Exchange, target: Policy, wanted: Shadow) -> None:
        policy = target.changed(ceilings=wanted.ceilings, shadow=None)
        found = measured(exchange.body, exchange.endpoint) if policy.router.reads_features else NO_FEATURES
        request = exchange.request._replace(stream=False, stays=0, features=found)
        shadow = exchange.shadowed_by(policy, request)
        await self._run(shadow, PlainReply(to_nobody, shadow))
        began, spent = self._spent.get(exchange.policy.name, (time.monotonic(), 0.0))
        self._spent[exchange.policy.name] = (began, spent + shadow.cost_usd)

    def _affordable(self, policy: str, wanted: Shadow) -> bool:
        if wanted.usd_per_hour is None:
            return True
        began, spent = self._spent.get(policy, (time.monotonic(), 0.0))
        if time.monotonic() - began >= HOUR:
            self._spent.pop(policy, None)
            return True
        return spent < wanted.usd_per_hour
