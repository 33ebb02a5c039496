"""Shadows: each repeats an exchange under another policy, for the records only. Its answer is discarded."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping

from gateway.api.writers import PlainReply, to_nobody
from gateway.exchange.exchange import Exchange
from gateway.skills.privacy.screen import Privacy
from gateway.wire.prompt_text import measured
from policies.schema.policy import Policy, Shadow
from policies.schema.private import Private
from routers.plan import NO_FEATURES

from .hourly_budget import Hourly

log = logging.getLogger(__name__)

MOST_AT_ONCE = 8
"""Maximum number of concurrent shadows. Further ones are skipped, since real requests come first."""

Run = Callable[[Exchange, PlainReply], Awaitable[None]]


class Shadows:
    """Starts shadows of finished exchanges, as their policies ask."""

    def __init__(self, run: Run, policies: Callable[[], Mapping[str, Policy]]) -> None:
        self._run = run
        self._policies = policies
        self._tasks: set[asyncio.Task[None]] = set()
        self._hourly = Hourly()

    def follow(self, exchange: Exchange) -> None:
        """Start a shadow of an answered exchange if it is sampled and the budget allows it."""
        wanted = exchange.policy.shadow
        if wanted is None or exchange.answer is None or len(self._tasks) >= MOST_AT_ONCE:
            return
        target = self._policies().get(wanted.policy)
        drawn = random.random() < wanted.share  # noqa: S311  no secret
        if target is None or not drawn or not self._hourly.affords(exchange.policy.name, wanted.usd_per_hour):
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
        found = measured(exchange.given, exchange.endpoint) if policy.router.reads_features else NO_FEATURES
        request = exchange.request._replace(stream=False, stays=0, features=found)
        shadow = exchange.shadowed_by(policy, request)
        if isinstance(target.private, Private) and target.private != exchange.policy.private:
            privacy = Privacy(target.private)
            await privacy.look(shadow.body, len(shadow.raw))
            shadow.private = shadow.private or privacy.stays
            shadow.transforms = (*shadow.transforms, privacy)
        await self._run(shadow, PlainReply(to_nobody, shadow))
        self._hourly.spend(exchange.policy.name, shadow.cost_usd)
