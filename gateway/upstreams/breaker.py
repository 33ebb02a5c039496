"""A circuit breaker: an upstream that keeps failing is left alone for a while."""

import time
from collections.abc import Callable

FAILURES = 5
REST = 5.0
LONGEST = 60.0


class Breaker:
    """Opens after 5 failures in a row, for 5 seconds; then one call tries. Each failed try doubles the rest,
    up to a minute; a success closes it (Nygard, "Release It!", 2007)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._rest = REST
        self._until = 0.0
        self._trying = False

    @property
    def is_open(self) -> bool:
        return self._failures >= FAILURES and self._clock() < self._until

    @property
    def wait(self) -> float:
        """Seconds until the next try is let through."""
        return max(0.0, self._until - self._clock()) if self.is_open else 0.0

    def admit(self) -> bool:
        """Whether a call may go; a half-open breaker admits one and rests again until that one succeeds."""
        if self.is_open:
            return False
        if self._failures >= FAILURES:
            self._until = self._clock() + self._rest
            self._trying = True
        return True

    def try_now(self) -> None:
        """Ends a rest early: the next call tries."""
        self._until = 0.0

    def success(self) -> None:
        self._failures, self._rest, self._trying = 0, REST, False

    def failure(self) -> None:
        """Calls that were under way when it opened fail too, without a say in how long it rests."""
        if self._failures >= FAILURES and not self._trying:
            return
        if self._trying:
            self._rest = min(LONGEST, self._rest * 2)
        self._failures, self._trying = self._failures + 1, False
        if self._failures >= FAILURES:
            self._until = self._clock() + self._rest
