"""Tells malformed answers of upstreams from faults of the gateway."""

from collections.abc import Iterator
from contextlib import contextmanager

from .transport import Garbage

MISSHAPEN = (KeyError, IndexError, TypeError, AttributeError, ValueError, ArithmeticError)
"""The exceptions that parsing a malformed answer raises."""


@contextmanager
def parsing(what: str) -> Iterator[None]:
    """Turn one of MISSHAPEN, raised in the `with` block, into Garbage. `what` names the expected answer.

    The block must only parse a server's bytes: any other fault in it would be blamed on the server.
    """
    try:
        yield
    except MISSHAPEN as error:
        raise Garbage(f"not {what}: {type(error).__name__}: {error}") from error
