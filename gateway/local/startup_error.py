"""Extracts the reason of a failed start from the end of an engine's log."""

import re
from collections.abc import Sequence

KEPT = 300
"""Number of last log lines to search: a traceback or two and the lines after them."""
SHOWN = 16
AFTER = 2
"""Number of lines after one that names an error which belong to it."""

_NAMED = re.compile(r"(?:^|[\s.])\w*(?:Error|Exception|error): \S")


def last_words(lines: Sequence[str]) -> list[str]:
    """Return the last lines that name an error, each with its continuation; if none does, the last lines."""
    named = {at + more for at, line in enumerate(lines) if _NAMED.search(line) for more in range(AFTER + 1)}
    told = [line for at, line in enumerate(lines) if at in named] or lines
    return list(told[-SHOWN:])
