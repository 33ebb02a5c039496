"""Finds tables in a text. Their cells mean nothing without their header and their columns, so they stay whole."""

import re
from collections.abc import Callable, Iterator

from .spans import Span, iterate_lines

GRID_LINE = re.compile(r"[|+]?(?: *:?[-=]{2,}:? *[|+])+ *(?::?[-=]{2,}:?)?|[-=]{3,}(?: +[-=]{3,})+")
"""The line below a header: `|---|:--:|`, `+---+---+`, `---- ----`."""
COLUMN_GAP = re.compile(r"(?<=[^\s.!?:]) {2,}(?=\S)")
HTML_TABLE = re.compile(r"(?is)<table\b.*?(?:</table\s*>|\Z)")
MAX_CELL_CHARS = 32
"""Mean characters of a cell from which a line with commas is prose."""
MAX_LINE_CHARS = 4000
QUOTED_CELL = re.compile(r'"[^"]*"')
SENTENCE_ENDS = (".", "!", "?")


def find_tables(text: str) -> Iterator[Span]:
    """Yield tables: of HTML, with bars, tabs, commas or semicolons, or in aligned columns."""
    for table in HTML_TABLE.finditer(text):
        yield table.span()
    lines = [*iterate_lines(text)]
    for count_columns, min_lines in COUNTERS:
        yield from _find_runs(text, lines, count_columns, min_lines)


def _find_runs(
    text: str, lines: list[Span], count_columns: Callable[[str], int], min_lines: int
) -> Iterator[Span]:
    """Yield the runs of at least `min_lines` lines with the same number of columns. A line that parts header and
    rows belongs to them."""
    begun, columns, count = 0, 0, 0
    end = 0
    for start, line_end in lines:
        line = text[start : min(line_end, start + MAX_LINE_CHARS)].strip(" \r\n")
        own = columns if columns and GRID_LINE.fullmatch(line) else count_columns(line)
        if own and own == columns:
            count, end = count + 1, line_end
            continue
        if columns and count >= min_lines:
            yield begun, end
        begun, columns, count, end = start, own, 1, line_end
    if columns and count >= min_lines:
        yield begun, end


def _count_bars(line: str) -> int:
    """Return 1 for a line with bars: rows may lack cells."""
    return int("|" in line or GRID_LINE.fullmatch(line) is not None)


def _count_tabs(line: str) -> int:
    return int("\t" in line.strip("\t"))


def _count_separators(separator: str) -> Callable[[str], int]:
    within = re.compile(rf"\S{separator}\S")

    def count(line: str) -> int:
        separators = QUOTED_CELL.sub("", line).count(separator)
        if line[-1:] in SENTENCE_ENDS or len(line) > MAX_CELL_CHARS * (separators + 1):
            return 0
        return separators if separators > 1 or within.search(line) else 0

    return count


def _count_gaps(line: str) -> int:
    return len(COLUMN_GAP.findall(line))


COUNTERS: tuple[tuple[Callable[[str], int], int], ...] = (
    (_count_bars, 2),
    (_count_tabs, 2),
    (_count_separators(","), 3),
    (_count_separators(";"), 3),
    (_count_gaps, 3),
)
"""How the columns of a line are counted, and the lines from which it is a table."""
