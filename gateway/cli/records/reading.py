"""Reads records for a command, and warns of those that can't be read."""

from collections.abc import Iterator
from pathlib import Path

from gateway.cli.output import warn
from policies.records.reader import LeftOut, read_records
from policies.records.schema import Record


def read_with_warning(path: Path) -> Iterator[Record]:
    """Yields the records of a file or a folder; after the last, prints one line on what was left out, if anything.
    Raises RecordError if nothing could be read."""
    left_out = LeftOut()
    yield from read_records(path, left_out)
    if text := str(left_out):
        warn(text)
