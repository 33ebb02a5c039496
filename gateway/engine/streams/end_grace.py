"""Limits how long a response may go on after its answer has ended."""

import math

from gateway.skills.transforms import UnusableAnswer
from gateway.upstreams.transport.transport import TransportError, compute_gap, set_end

from .chunks import ChunkReader

DONE_GRACE_S = 1.0
"""Seconds that a server may take to end its response after `[DONE]`."""
FINISH_GRACE_S = 5.0
"""Seconds that it may take for the usage and `[DONE]` after all choices are finished."""


class EndGrace:
    """The time limit of one response after the answer in it has ended, whatever still comes."""

    def __init__(self, chunks: ChunkReader) -> None:
        self._chunks = chunks
        self._end = math.inf

    def max_gap(self) -> float | None:
        """Return the maximum seconds of the next read after the answer's end.

        Raises TransportError once the time is over.
        """
        self._end = min(self._end, set_end(DONE_GRACE_S if self._chunks.is_done else FINISH_GRACE_S))
        return compute_gap(self._end)

    def check_ended(self, error: TransportError) -> None:
        """Raise the error, unless the answer had ended before. An answer that must not be used has not."""
        if isinstance(error, UnusableAnswer) or not self._chunks.has_ended:
            raise error
