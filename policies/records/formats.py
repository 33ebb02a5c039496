"""The version of a record line's format: `1`, or with a minor version `"1.2"`, a string because 1.10 is not 1.1.

A minor version adds keys, which readers of older versions may ignore. A major version changes the meaning of existing
keys. A line without a version has format 1: it was written before the key existed.
"""

import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, StrictInt, StrictStr

CURRENT = 1
"""The version that is written."""


class Version(NamedTuple):
    major: int
    minor: int


def parse_version(format_: object) -> Version:
    """Parse a line's `format`. Raises ValueError if it is not a version."""
    match = re.fullmatch(r"([1-9]\d{0,3})(?:\.(\d{1,4}))?", str(format_), re.ASCII)
    if match is None or not isinstance(format_, int | str):
        raise ValueError(f'expected a format such as 1 or "1.2", found {format_!r}')
    return Version(int(match[1]), int(match[2] or 0))


KNOWN = parse_version(CURRENT)
"""The newest version that is read completely."""


def is_newer_minor(version: Version) -> bool:
    """Return whether the version only adds keys to the known ones."""
    return version.major == KNOWN.major and version.minor > KNOWN.minor


def check_major(version: Version) -> None:
    """Raise ValueError if lines of this major version cannot be read."""
    if version.major != KNOWN.major:
        raise ValueError(
            f"it is of format {version.major}, this version of smallfirst reads format {KNOWN.major}"
        )


def _check(format_: int | str) -> int | str:
    parse_version(format_)
    return format_


Format = Annotated[StrictInt | StrictStr, AfterValidator(_check)]
