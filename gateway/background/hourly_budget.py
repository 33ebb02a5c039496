"""Hourly budgets of background work, one per policy."""

import time
from collections.abc import Callable

HOUR = 3600.0


class Hourly:
    """Counts the dollars that each policy spends. A count restarts an hour after its first expense."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spent: dict[str, tuple[float, float]] = {}

    def affords(self, policy: str, most: float | None) -> bool:
        """Whether the policy has spent less than `max_usd` dollars within the hour. None: no limit."""
        if most is None:
            return True
        began, spent = self._spent.get(policy, (self._clock(), 0.0))
        if self._clock() - began >= HOUR:
            self._spent.pop(policy, None)
            return True
        return spent < most

    def spend(self, policy: str, usd: float) -> None:
        began, spent = self._spent.get(policy, (self._clock(), 0.0))
        self._spent[policy] = (began, spent + usd)
