"""Server-sent events: bytes in any chunking -> events' data, and back (WHATWG HTML, section 9.2)."""

from typing import Any

import orjson

DONE = b"[DONE]"
DONE_EVENT = b"data: [DONE]\n\n"


class EventReader:
    """Splits a stream into events. Line ends may be LF or CRLF; comments and other fields are skipped."""

    def __init__(self) -> None:
        self._rest = b""

    def blocks(self, data: bytes) -> list[bytes]:
        """The events that `data` completes, raw, each without its blank line."""
        buffer = self._rest + data if self._rest else data
        if b"\r" in buffer:
            buffer = buffer.replace(b"\r\n", b"\n")
        *complete, self._rest = buffer.split(b"\n\n")
        return complete

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that `data` completes."""
        return [payload for block in self.blocks(data) if (payload := payload_of(block))]

    def rest(self) -> bytes:
        """What came after the last complete event: a server may leave out the last blank line."""
        rest, self._rest = self._rest, b""
        return rest


def payload_of(block: bytes) -> bytes:
    """An event's data; empty where it has none."""
    if block.startswith(b"data: ") and b"\n" not in block:
        return block[6:]
    lines = (line for line in block.split(b"\n") if line.startswith(b"data:"))
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines)


def event(data: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


def comment(name: str, data: dict[str, Any]) -> bytes:
    """A comment line: ignored by clients, read by people and by our own tools."""
    return b": " + name.encode() + b" " + orjson.dumps(data) + b"\n\n"
