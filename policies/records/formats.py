"""The version of a record line's format: `1`, or with a minor version `"1.2"`, a string since 1.10 is no number.

A minor version adds keys that readers of older ones may ignore. A major version changes the meaning of what is there.
A line without a version is older than the key: format 1.
"""

import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, StrictInt, StrictStr

CURRENT = 1
"""What is written."""


class Version(NamedTuple):
    major: int
    minor: int


def parse_version(format_: object) -> Version:
    """Raises ValueError if it is no version of a format."""
    found = re.fullmatch(r"([1-9]\d{0,3})(?:\.(\d{1,4}))?", str(format_), re.ASCII)
    if found is None or not isinstance(format_, int | str):
        raise ValueError(f'expected a format such as 1 or "1.2", found {format_!r}')
    return Version(int(found[1]), int(found[2] or 0))


KNOWN = parse_version(CURRENT)
"""The newest version that is read without loss."""


def is_newer_minor(version: Version) -> bool:
    """Whether the version only adds keys to those that are known."""
    return version.major == KNOWN.major and version.minor > KNOWN.minor


def check_major(version: Version) -> None:
    """Raises ValueError if the version is not to be read."""
    if version.major != KNOWN.major:
        raise ValueError(
            f"it is of format {version.major}, this version of smallfirst reads format {KNOWN.major}"
        )


def _check(format_: int | str) -> int | str:
    parse_version(format_)
    return format_


Format = Annotated[StrictInt | StrictStr, AfterValidator(_check)]
