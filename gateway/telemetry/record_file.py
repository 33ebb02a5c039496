"""Appends records to the day's file. Each file is complete in itself, even if another process rotates it."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from policies.records.schema import PolicyLine
from policies.schema.policy import Policy


class Extent(NamedTuple):
    """A file's identity and its size in bytes."""

    device: int
    inode: int
    size: int

    @classmethod
    def of(cls, descriptor: int) -> "Extent":
        status = os.fstat(descriptor)
        return cls(status.st_dev, status.st_ino, status.st_size)


class RecordFile:
    """Appends batches to `<folder>/<day>-<pid>.jsonl`, with each policy's line before its first exchange in the file.

    If the file has changed since the last batch (new, renamed, deleted, truncated, written by another process), it is
    assumed to hold no policies, and its last line may be incomplete.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last_extent: Extent | None = None
        self._introduced: frozenset[str] = frozenset()

    @property
    def path(self) -> Path:
        return self._folder / f"{time.strftime('%Y%m%d')}-{os.getpid()}.jsonl"

    def append(self, lines: Sequence[tuple[Policy, bytes]]) -> None:
        """Append all exchange lines, each paired with the policy it ran under, or none of them. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            extent = Extent.of(descriptor)
            unchanged = extent == self._last_extent
            introduced = self._introduced if unchanged else frozenset()
            new = {policy.digest: policy for policy, _ in lines if policy.digest not in introduced}
            ending = b"" if unchanged or _is_at_line_start(descriptor, extent.size) else b"\n"
            data = ending + b"".join(
                [*map(_encode_policy_line, new.values()), *(line + b"\n" for _, line in lines)]
            )
            _write(descriptor, data, extent.size)
        finally:
            os.close(descriptor)
        # The size is computed, so that the next batch notices what other processes wrote during this one.
        self._last_extent = extent._replace(size=extent.size + len(data))
        self._introduced = introduced | new.keys()


def _encode_policy_line(policy: Policy) -> bytes:
    return PolicyLine(digest=policy.digest, policy=policy).model_dump_json().encode() + b"\n"


def _is_at_line_start(descriptor: int, size: int) -> bool:
    """Return whether appended data would begin a new line."""
    return size == 0 or os.pread(descriptor, 1, size - 1) in (b"\n", b"")


def _write(descriptor: int, data: bytes, size: int) -> None:
    """Append all of `data`. If that fails, truncate the file to `size` again and raise OSError."""
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError:
        with suppress(OSError):  # if this fails too, the next batch ends the incomplete line
            os.ftruncate(descriptor, size)
        raise
