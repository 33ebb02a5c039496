"""How far a collection has come: which items are done, and how long it took."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from policies.records.reader import LeftOut, read_records
from policies.records.schema import RecordError

from .grades import Grade, read_grades


class CollectionProgress(NamedTuple):
    """What a collection's folder holds. An item is done if its grade and its record can both be read."""

    done: dict[str, Grade]
    """Grades by item."""
    unrecorded: int = 0
    """Items with a grade whose record was lost with the process. They are drafted again."""
    unreadable: int = 0
    """Lines of grades that cannot be read."""
    seconds: float = 0.0
    """Seconds in which the done items were drafted; time between two runs is not counted."""


def read_progress(folder: Path) -> CollectionProgress:
    """Return how far the collection in a folder has come. Raises RecordError if a file cannot be read."""
    left_out = LeftOut()
    try:
        grades = read_grades(folder, left_out)
    except RecordError:
        return CollectionProgress({})
    times = _read_times(folder)
    done = {grade.item: grade for grade in grades if grade.id in times}
    return CollectionProgress(
        done,
        len({grade.item for grade in grades} - done.keys()),
        left_out.lines,
        measure_busy_time([times[grade.id] for grade in done.values()]),
    )


def _read_times(folder: Path) -> dict[str, tuple[float, float]]:
    """Return when each recorded exchange began and ended, by its id."""
    try:
        exchanges = [record.exchange for record in read_records(folder)]
    except RecordError:  # no line could be read: no item is done
        return {}
    return {exchange.id: (exchange.at, exchange.at + exchange.seconds) for exchange in exchanges}


def measure_busy_time(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of time spans."""
    total, end = 0.0, float("-inf")
    for begin, until in sorted(spans):
        total += max(0.0, until - max(begin, end))
        end = max(end, until)
    return total
