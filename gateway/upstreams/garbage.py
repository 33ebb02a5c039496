"""Answers of another shape than their endpoint gives."""

from collections.abc import Iterator
from contextlib import contextmanager

from .transport import Broken

MISSHAPEN = (KeyError, IndexError, TypeError, AttributeError, ValueError)
"""What reading an answer of another shape ends in."""


class Garbage(Broken):
    """A response that is no answer."""

    def __init__(self, message: str) -> None:
        super().__init__("garbage", message, fresh=False)


@contextmanager
def parsing(what: str) -> Iterator[None]:
    """Raises Garbage for an answer of another shape. Nothing but what reads a server's bytes belongs within: a fault of
    the gateway's own, or of a plan's, would be taken for the server's."""
    try:
        yield
    except MISSHAPEN as error:
        raise Garbage(f"not {what}: {type(error).__name__}: {error}") from error
