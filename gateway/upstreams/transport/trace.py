"""Headers of a client's request that travel on to upstreams, so that their traces and logs can be joined with its own.

They belong to the task that serves the request, and to the tasks that it starts, whatever calls they make.
"""

from collections.abc import Collection, Iterable, Sequence
from contextvars import ContextVar

TRACE_HEADERS = frozenset((b"traceparent", b"tracestate", b"x-request-id"))
"""The W3C's trace context (https://www.w3.org/TR/trace-context/), and the id that most servers log."""

MAX_VALUE_BYTES = 512
"""Maximum bytes of a value. That many of a `tracestate` are passed on by everybody."""

_headers: ContextVar[Sequence[tuple[bytes, bytes]]] = ContextVar("trace_headers", default=())


def set_trace_headers(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Let the requests that this task sends carry the trace headers among `headers`, whose names are in lower case.

    Returns the client's id of the request, if it sent one.
    """
    found = [header for header in headers if header[0] in TRACE_HEADERS]
    if found:
        found = [header for header in found if _is_safe(header[1])]
    _headers.set(found)
    return dict(found).get(b"x-request-id") if found else None


def build_trace_lines(others: Collection[bytes]) -> bytes:
    """Return the header lines for a request that has the headers `others`, which take precedence."""
    headers = _headers.get()
    if not headers:
        return b""
    return b"".join([b"%b: %b\r\n" % header for header in headers if header[0] not in others])


def _is_safe(value: bytes) -> bool:
    """Return whether a value is printable ASCII, and so cannot end its header line."""
    return 0 < len(value) <= MAX_VALUE_BYTES and value.isascii() and value.decode().isprintable()
