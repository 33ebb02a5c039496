"""Appends to the record file of the day. Others may rotate it meanwhile: each file can be read alone."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from policies.records.schema import PolicyLine
from policies.schema.policy import Policy


class Extent(NamedTuple):
    """Which file it is, and how long."""

    device: int
    inode: int
    size: int

    @classmethod
    def of(cls, descriptor: int) -> "Extent":
        found = os.fstat(descriptor)
        return cls(found.st_dev, found.st_ino, found.st_size)


class RecordFile:
    """Appends batches to `<folder>/<day>-<pid>.jsonl`, and a policy's line before its first exchange in a file.

    A file that is not as the last batch left it (new, renamed, deleted, truncated, written by somebody else) is
    assumed to hold no policies, and maybe half a line at its end.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._left: Extent | None = None
        self._introduced: frozenset[str] = frozenset()

    @property
    def path(self) -> Path:
        return self._folder / f"{time.strftime('%Y%m%d')}-{os.getpid()}.jsonl"

    def append(self, lines: Sequence[tuple[Policy, bytes]]) -> None:
        """Writes all exchange lines, each with the policy it ran under, or none. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            found = Extent.of(descriptor)
            unchanged = found == self._left
            introduced = self._introduced if unchanged else frozenset()
            new = {policy.digest: policy for policy, _ in lines if policy.digest not in introduced}
            ending = b"" if unchanged or _ends_line(descriptor, found.size) else b"\n"
            data = ending + b"".join([*map(_policy_line, new.values()), *(line + b"\n" for _, line in lines)])
            _write(descriptor, data, found.size)
        finally:
            os.close(descriptor)
        # Computed, not measured again: what happened to the file during the write shows at the next batch.
        self._left = found._replace(size=found.size + len(data))
        self._introduced = introduced | new.keys()


def _policy_line(policy: Policy) -> bytes:
    return PolicyLine(digest=policy.digest, policy=policy).model_dump_json().encode() + b"\n"


def _ends_line(descriptor: int, size: int) -> bool:
    """Whether what is appended begins a line."""
    return size == 0 or os.pread(descriptor, 1, size - 1) in (b"\n", b"")


def _write(descriptor: int, data: bytes, size: int) -> None:
    """Appends all of `data`, or truncates the file to `size` again. Raises OSError."""
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError:
        with suppress(OSError):  # the next batch then finds half a line, and ends it
            os.ftruncate(descriptor, size)
        raise
