"""Hourly budgets of background work, one per policy."""

import time
from collections.abc import Callable

HOUR_S = 3600.0


class HourlyBudget:
    """Counts the dollars that each policy spends. A count restarts an hour after its first expense."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spent: dict[str, tuple[float, float]] = {}

    def can_spend(self, policy: str, max_usd: float | None) -> bool:
        """Whether the policy has spent less than `max_usd` dollars within the hour. None: no limit."""
        if max_usd is None:
            return True
        began, spent = self._spent.get(policy, (self._clock(), 0.0))
        if self._clock() - began >= HOUR_S:
            self._spent.pop(policy, None)
            return True
        return spent < max_usd

    def spend(self, policy: str, usd: float) -> None:
        began, spent = self._spent.get(policy, (self._clock(), 0.0))
        self._spent[policy] = (began, spent + usd)
