"""The grades of a collection: a line of JSON for each draft, appended as soon as the draft is graded."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from pydantic import TypeAdapter, ValidationError

from policies.records.reader import GRADES_FILE, LeftOut
from policies.records.schema import Line, RecordError

OLD_GRADES_FILE = "grades.json"
"""A JSON list of all grades, as earlier versions wrote it at the end of a collection."""


class Grade(Line):
    """The grade of one exchange's answer. Each template is in one split only."""

    id: str
    item: str
    kind: str
    template: str
    split: Literal["train", "held_out"]
    right: bool


class GradesWriter:
    """Appends grades to a folder's file. Each is on disk when `append` returns, whatever becomes of the process.

    It locks the file, so that no other process collects into the folder. Raises RecordError if another one does."""

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder / GRADES_FILE, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        if not _lock(self._descriptor):
            os.close(self._descriptor)
            raise RecordError(f"{folder}: another process is collecting into it")
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":  # a killed process left half a line
            os.write(self._descriptor, b"\n")

    def append(self, grade: Grade) -> None:
        """Append a grade. Raises OSError."""
        os.write(self._descriptor, grade.model_dump_json().encode() + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


def _lock(descriptor: int) -> bool:
    """Return whether this process has the file for itself until it closes it."""
    if sys.platform == "win32":
        return True
    import fcntl  # which Windows does not have

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_grades(folder: Path, left_out: LeftOut | None = None) -> list[Grade]:
    """Return the grades in a folder. Lines that cannot be read, such as the last one of a killed process, are added to
    `left_out`.

    Raises RecordError if the folder has no grades, or if an old file of grades is invalid."""
    path = folder / GRADES_FILE
    try:
        if not path.exists():
            return _read_old_grades(folder / OLD_GRADES_FILE)
        return list(_read_lines(path, LeftOut() if left_out is None else left_out))
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}; `smallfirst collect` writes it") from error


def _read_lines(path: Path, left_out: LeftOut) -> Iterator[Grade]:
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        try:
            yield Grade.model_validate_json(text)
        except ValidationError as error:
            left_out.add(f"{path}:{number}", f"no grade: {error.errors()[0]['msg']}")


def _read_old_grades(path: Path) -> list[Grade]:
    try:
        return TypeAdapter(list[Grade]).validate_json(path.read_bytes())
    except ValidationError as error:
        raise RecordError(f"{path}: {error}") from error
