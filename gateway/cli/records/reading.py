"""Reads records for a command, and warns of lines that cannot be read."""

from collections.abc import Iterator
from pathlib import Path

from gateway.cli.output import warn
from policies.records.reader import LeftOut, read_records
from policies.records.schema import Record


def read_with_warning(path: Path) -> Iterator[Record]:
    """Yield the records of a file or a folder. If lines were left out, print one warning after the last record. Raises
    RecordError if none could be read."""
    left_out = LeftOut()
    yield from read_records(path, left_out)
    if text := str(left_out):
        warn(text)
