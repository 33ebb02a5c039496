"""Extracts the reason of a failed start from the end of an engine's log."""

import re
from collections.abc import Sequence

MAX_LOG_LINES = 300
"""Number of last log lines to search: a traceback or two and the lines after them."""
MAX_ERROR_LINES = 16
CONTINUATION_LINES = 2
"""Number of lines after one that names an error which belong to it."""

_ERROR_LINE = re.compile(r"(?:^|[\s.])\w*(?:Error|Exception|error): \S|^[\d.]+ E \S")
"""A line of a traceback or of a program's own, or of llama.cpp's log, which marks errors with an E."""


def find_error_lines(lines: Sequence[str]) -> list[str]:
    """Return the last lines that name an error, each with its continuation; if none does, the last lines."""
    line_numbers = {
        at + more
        for at, line in enumerate(lines)
        if _ERROR_LINE.search(line)
        for more in range(CONTINUATION_LINES + 1)
    }
    error_lines = [line for at, line in enumerate(lines) if at in line_numbers] or lines
    return list(error_lines[-MAX_ERROR_LINES:])
