"""What background work may spend in an hour, by the policy that asks for it."""

import time
from collections.abc import Callable

HOUR = 3600.0


class Hourly:
    """Dollars by policy, counted anew an hour after the first of them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spent: dict[str, tuple[float, float]] = {}

    def affords(self, policy: str, most: float | None) -> bool:
        """Whether less than `most` dollars were spent within the hour; None: there is no such limit."""
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
