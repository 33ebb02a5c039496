"""A circuit breaker, which stops calls to an upstream that keeps failing."""

import time
from collections.abc import Callable

FAILURES_TO_OPEN = 5
MIN_REST_S = 5.0
MAX_REST_S = 60.0


class Breaker:
    """Opens for 5 seconds after 5 failures in a row, then admits one trial call.

    Each failed trial doubles the rest, up to a minute. A success closes the breaker (Nygard, "Release It!",
    2007).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._rest_s = MIN_REST_S
        self._open_until = 0.0
        self._is_half_open = False

    @property
    def is_open(self) -> bool:
        return self._failures >= FAILURES_TO_OPEN and self._clock() < self._open_until

    @property
    def retry_in_s(self) -> float:
        """Seconds until the breaker admits the next trial call; 0 if it is not open."""
        return max(0.0, self._open_until - self._clock()) if self.is_open else 0.0

    def admit(self) -> bool:
        """Return whether a call may be made. A half-open breaker admits one trial and then opens again until
        that trial succeeds."""
        if self.is_open:
            return False
        if self._failures >= FAILURES_TO_OPEN:
            self._open_until = self._clock() + self._rest_s
            self._is_half_open = True
        return True

    def end_rest(self) -> None:
        """End the rest early, so that the next call is a trial."""
        self._open_until = 0.0

    def record_success(self) -> None:
        self._failures, self._rest_s, self._is_half_open = 0, MIN_REST_S, False

    def record_failure(self) -> None:
        """Count a failed call. Calls that were in flight when the breaker opened do not prolong its rest."""
        if self._failures >= FAILURES_TO_OPEN and not self._is_half_open:
            return
        if self._is_half_open:
            self._rest_s = min(MAX_REST_S, self._rest_s * 2)
        self._failures, self._is_half_open = self._failures + 1, False
        if self._failures >= FAILURES_TO_OPEN:
            self._open_until = self._clock() + self._rest_s
