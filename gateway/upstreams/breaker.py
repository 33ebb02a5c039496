"""A circuit breaker, which stops calls to an upstream that keeps failing."""

import time
from collections.abc import Callable

FAILURES = 5
REST = 5.0
LONGEST = 60.0


class Breaker:
    """Opens for 5 seconds after 5 failures in a row, then admits one trial call.

    Each failed trial doubles the rest, up to a minute. A success closes the breaker (Nygard, "Release It!",
    2007).
    """

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
        """Seconds until the breaker admits the next trial call; 0 if it is not open."""
        return max(0.0, self._until - self._clock()) if self.is_open else 0.0

    def admit(self) -> bool:
        """Return whether a call may be made. A half-open breaker admits one trial and then opens again until
        that trial succeeds."""
        if self.is_open:
            return False
        if self._failures >= FAILURES:
            self._until = self._clock() + self._rest
            self._trying = True
        return True

    def try_now(self) -> None:
        """End the rest early, so that the next call is a trial."""
        self._until = 0.0

    def success(self) -> None:
        self._failures, self._rest, self._trying = 0, REST, False

    def failure(self) -> None:
        """Count a failed call. Calls that were in flight when the breaker opened do not prolong its rest."""
        if self._failures >= FAILURES and not self._trying:
            return
        if self._trying:
            self._rest = min(LONGEST, self._rest * 2)
        self._failures, self._trying = self._failures + 1, False
        if self._failures >= FAILURES:
            self._until = self._clock() + self._rest
