"""Reads the files that a configuration names: whole, regular and of a bounded size."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

MAX_FILE_BYTES = 16 * 2**20
"""Maximum bytes of a file. A trained file has thousands."""

ReadFile = Callable[[Path], bytes]


def read_file(path: Path) -> bytes:
    """Return the content of a regular file. Raises OSError, also for a file of more than `MAX_FILE_BYTES`.

    A pipe or a device would hold up the thread that reads it, perhaps for ever, and with it the end of the process.
    """
    with open(path, "rb", opener=_open_at_once) as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise OSError(errno.EFBIG, f"Larger than {MAX_FILE_BYTES} bytes", str(path))
    return data


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for the writer of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)
