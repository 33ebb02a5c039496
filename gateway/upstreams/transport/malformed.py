"""What of an upstream's answer can't be read: another shape than its endpoint gives, or more than fits."""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.wire.sse import EventReader, EventTooLarge

from .transport import Garbage

MISSHAPEN = (KeyError, IndexError, TypeError, AttributeError, ValueError)
"""What reading an answer of another shape ends in."""


@contextmanager
def parsing(what: str) -> Iterator[None]:
    """Raises Garbage for an answer of another shape. Nothing but what reads a server's bytes belongs within: a fault of
    the gateway's own, or of a plan's, would be taken for the server's."""
    try:
        yield
    except MISSHAPEN as error:
        raise Garbage(f"not {what}: {type(error).__name__}: {error}") from error


class UpstreamEvents(EventReader):
    """Reads an upstream's events. Raises Garbage for one that is too large."""

    def read_blocks(self, data: bytes) -> list[bytes]:
        try:
            return super().read_blocks(data)
        except EventTooLarge as error:
            raise Garbage(str(error)) from error
