"""Tells an upstream's answer of another shape than its endpoint gives from a fault of our own."""

from collections.abc import Iterator
from contextlib import contextmanager

from .transport import Garbage

MISSHAPEN = (KeyError, IndexError, TypeError, AttributeError, ValueError)
"""What reading an answer of another shape ends in."""


@contextmanager
def parsing(what: str) -> Iterator[None]:
    """Raise Garbage if what reads an answer in here fails on its shape.

    Only the reading of a server's bytes belongs in here: a fault of the gateway or of a plan would be taken for the
    server's.
    """
    try:
        yield
    except MISSHAPEN as error:
        raise Garbage(f"not {what}: {type(error).__name__}: {error}") from error
