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
        return max_usd is None or self._window(policy)[1] < max_usd

    def spend(self, policy: str, usd: float) -> None:
        began, spent = self._window(policy)
        self._spent[policy] = (began, spent + usd)

    def _window(self, policy: str) -> tuple[float, float]:
        """Return when the policy's current count began, and its dollars."""
        now = self._clock()
        began, spent = self._spent.get(policy, (now, 0.0))
        return (began, spent) if now - began < HOUR_S else (now, 0.0)
