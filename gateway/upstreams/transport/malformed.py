"""Tells malformed answers of upstreams from faults of the gateway."""

import json
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
        raise Garbage(f"not {what}: {describe_misshape(error)}") from error


def describe_misshape(error: Exception) -> str:
    """Return what is wrong with an answer, from the exception that parsing it raised, in words for its reader."""
    if isinstance(error, json.JSONDecodeError):
        return f"it is not JSON: {error}"
    if isinstance(error, KeyError):
        return f"{error.args[0] if error.args else 'a key'} is missing"
    if isinstance(error, IndexError):
        return "a list is too short"
    return (
        "a value has another type" if isinstance(error, TypeError | AttributeError) else "a value is invalid"
    )
