"""Shadows: each repeats an exchange under another policy, for the records only. Its answer is discarded."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping

from gateway.engine.reply import NullReply, Reply
from gateway.exchange.exchange import Exchange
from gateway.skills.privacy.screen import PrivacyScreen
from gateway.wire.prompt_text import extract_prompt_features
from policies.schema.policy import Policy, Shadow
from policies.schema.private import Private
from routers.plan import NO_FEATURES

from .hourly_budget import HourlyBudget

log = logging.getLogger(__name__)

MAX_CONCURRENT = 8
"""Maximum number of concurrent shadows. Further ones are skipped, since real requests come first."""

Run = Callable[[Exchange, Reply], Awaitable[None]]


class Shadows:
    """Starts shadows of finished exchanges, as their policies ask."""

    def __init__(self, run: Run, policies: Callable[[], Mapping[str, Policy]]) -> None:
        self._run = run
        self._policies = policies
        self._tasks: set[asyncio.Task[None]] = set()
        self._budget = HourlyBudget()

    def maybe_start(self, exchange: Exchange) -> None:
        """Start a shadow of an answered exchange if it is sampled and the budget allows it."""
        settings = exchange.policy.shadow
        if settings is None or exchange.answer is None or len(self._tasks) >= MAX_CONCURRENT:
            return
        target = self._policies().get(settings.policy)
        is_sampled = random.random() < settings.share  # noqa: S311  no secret
        if (
            target is None
            or not is_sampled
            or not self._budget.can_spend(exchange.policy.name, settings.usd_per_hour)
        ):
            return
        task = asyncio.ensure_future(self._run_shadow(exchange, target, settings))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _run_shadow(self, exchange: Exchange, target: Policy, settings: Shadow) -> None:
        policy = target.replace(ceilings=settings.ceilings, shadow=None)
        features = (
            extract_prompt_features(exchange.full_body, exchange.endpoint)
            if policy.router.reads_features
            else NO_FEATURES
        )
        request = exchange.request._replace(stream=False, stays=0, features=features)
        shadow = exchange.create_shadow(policy, request)
        if isinstance(target.private, Private) and target.private != exchange.policy.private:
            privacy = PrivacyScreen(target.private)
            await privacy.scan(shadow.body, len(shadow.raw))
            shadow.private = shadow.private or privacy.must_stay_local
            shadow.transforms = (*shadow.transforms, privacy)
        await self._run(shadow, NullReply(shadow))
        self._budget.spend(exchange.policy.name, shadow.cost_usd)
