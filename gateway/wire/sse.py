"""Parses and writes server-sent events (WHATWG HTML, section 9.2)."""

from collections.abc import Callable
from typing import Any

import orjson

DONE = b"[DONE]"
DONE_EVENT = b"data: [DONE]\n\n"
HEARTBEAT = b": waiting\n\n"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

MAX_EVENT = 16 * 2**20
"""Maximum bytes of one event from an upstream."""


class EventTooLarge(ValueError):
    """An event has more than `MAX_EVENT` bytes."""


class EventReader:
    """Splits a stream into events, however its bytes are split into reads.

    Line ends may be LF, CRLF or CR. Comments, other fields and a byte order mark at the beginning are skipped.
    A body that is JSON, and no stream, is one event. `too_large` builds the exception that is raised for an event over
    the limit.
    """

    def __init__(self, too_large: Callable[[str], Exception] = EventTooLarge) -> None:
        self._too_large = too_large
        self._rest = bytearray()
        self._after_cr = False
        self._at_start = True
        self._is_json = False

    def read_blocks(self, data: bytes) -> list[bytes]:
        """Return the raw events that `data` completes, each without its blank line.

        The time is linear in all data, wherever it is split. Raises `too_large` for an event of more than `MAX_EVENT`
        bytes, even if it is incomplete.
        """
        if self._after_cr or b"\r" in data:
            data = self._normalize_line_ends(data)
        if self._rest:
            before = len(self._rest)
            self._rest += data
            if self._is_json or (not self._at_start and self._rest.find(b"\n\n", before - 1) < 0):
                self._check_size(before + len(data))
                return []
            data = bytes(self._rest)
            self._rest.clear()
        return self._split(data)

    def _split(self, buffer: bytes) -> list[bytes]:
        """Return the complete events of a buffer, and keep the rest."""
        if self._at_start:
            if BYTE_ORDER_MARK.startswith(buffer) or buffer.isspace():
                self._rest += buffer  # this may be the mark or only its beginning
                return []
            buffer, self._at_start = buffer.removeprefix(BYTE_ORDER_MARK), False
            self._is_json = not buffer.startswith(b"data") and is_json(buffer)
        if self._is_json:
            self._check_size(len(buffer))
            self._rest += buffer
            return []
        *complete, rest = buffer.split(b"\n\n")
        if len(buffer) > MAX_EVENT:
            self._check_size(max(map(len, (*complete, rest))))
        self._rest += rest
        return complete

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of each event that `data` completes. Raises `too_large` like `read_blocks`."""
        if not self._rest and not self._after_cr and _is_one_event(data):
            self._at_start = False
            return [data[6:-2]]
        return [payload for block in self.read_blocks(data) if (payload := payload_of(block))]

    def flush(self) -> bytes:
        """Return what came after the last complete event: a server may leave out the last blank line."""
        rest = bytes(self._rest)
        self._rest.clear()
        return b"data: " + rest.replace(b"\n", b" ") if self._is_json and rest else rest

    def _check_size(self, size: int) -> None:
        if size > MAX_EVENT:
            self._rest.clear()
            raise self._too_large(f"an event is over the limit of {MAX_EVENT} bytes")

    def _normalize_line_ends(self, data: bytes) -> bytes:
        """Return `data` with LF for every line end. A CRLF may be split between two reads."""
        after_cr, self._after_cr = self._after_cr, data.endswith(b"\r") if data else self._after_cr
        if after_cr:
            data = data.removeprefix(b"\n")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _is_one_event(data: bytes) -> bool:
    """Return whether `data` is one line of data and its blank line, as is common while a model writes."""
    one_line = data.find(b"\n") == len(data) - 2 and b"\r" not in data
    return one_line and data.startswith(b"data: ") and data.endswith(b"}\n\n")


def is_json(body: bytes) -> bool:
    """Return whether a body is a JSON object or list, by its first character. No stream begins like that."""
    return body.lstrip().startswith((b"{", b"["))


def payload_of(block: bytes) -> bytes:
    """Return an event's data; b"" if it has none.

    Errors that are told apart by their framing become data with the key `error`: the data of an event of that type,
    a line `error: ...`, and one that is JSON without `data:`.
    """
    if block.startswith(b"data: ") and b"\n" not in block:
        return block[6:]
    data, is_error = [], False
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        is_error |= name == b"error" or (name == b"event" and value == b"error")
        if name in (b"data", b"error"):
            data.append(value)
        elif name == b'{"error"':
            data.append(line)
    payload = b"\n".join(data)
    return _wrap_error(payload) if is_error and payload else payload


def _wrap_error(payload: bytes) -> bytes:
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError:
        payload = orjson.dumps(payload.decode(errors="replace"))
    return b'{"error":%b}' % payload


def encode_event(data: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


def encode_comment(name: str, data: dict[str, Any]) -> bytes:
    """Return a comment line, which clients ignore."""
    return b": " + name.encode() + b" " + orjson.dumps(data) + b"\n\n"
