"""Why an engine could not start, as the end of its log tells it."""

import re
from collections.abc import Sequence

KEPT = 300
"""Lines of a log that the reason is looked for in: a traceback or two, and what is said after them."""
SHOWN = 16
AFTER = 2
"""Lines that belong to the one that names an error."""

_NAMED = re.compile(r"(?:^|[\s.])\w*(?:Error|Exception|error): \S")


def last_words(lines: Sequence[str]) -> list[str]:
    """The last lines that name an error, each with what it goes on with; where none does, the last lines."""
    named = {at + more for at, line in enumerate(lines) if _NAMED.search(line) for more in range(AFTER + 1)}
    told = [line for at, line in enumerate(lines) if at in named] or lines
    return list(told[-SHOWN:])
