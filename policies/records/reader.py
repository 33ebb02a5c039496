"""Reads record files, and accounts for the lines that it can't read."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from policies.schema.policy import Policy

from .formats import CURRENT, KNOWN, Version, check_major, is_newer_minor, parse_version
from .schema import AnyLine, ExchangeLine, PolicyLine, Record, RecordError

MAX_NAMED = 3
"""Lines, and keys, that are named; further ones are counted."""
MAX_LENGTH = 300
"""Characters of a reason."""


@dataclass
class LeftOut:
    """What could not be read: how many lines (a file that can't be read counts as one), and why, of the first few."""

    lines: int = 0
    reasons: list[str] = field(default_factory=list)
    """Each names file and line."""
    keys: Counter[str] = field(default_factory=Counter)
    """Of records that were read: how many lines had which key that only a newer format knows."""

    def add(self, where: str, why: str) -> None:
        self.lines += 1
        if len(self.reasons) < MAX_NAMED:
            self.reasons.append(f"{where}: {_printable(why)}")

    def __str__(self) -> str:
        """One line; empty where nothing was left out."""
        return "; ".join(filter(None, [self._unread(), self._unknown()]))

    def _unread(self) -> str:
        if not self.lines:
            return ""
        more = self.lines - len(self.reasons)
        named = "; ".join([*self.reasons, *([f"and {more} more"] if more else [])])
        return f"{_count(self.lines, 'line')} of records left out: {named}"

    def _unknown(self) -> str:
        if not self.keys:
            return ""
        first = sorted(self.keys.items())[:MAX_NAMED]
        named = [f"{_printable(key)} ({_count(lines, 'line')})" for key, lines in first]
        more = len(self.keys) - len(first)
        return (
            f"keys of a newer format ignored: {', '.join([*named, *([f'and {more} more'] if more else [])])}"
        )


def _printable(text: str) -> str:
    """What may quote a file, as one line of bounded length."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:MAX_LENGTH])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def read_records(path: Path, left_out: LeftOut | None = None) -> Iterator[Record]:
    """Yields the records of a .jsonl file, or of all in a folder. Adds what it can't read to `left_out`.

    Raises RecordError after the last file if there are lines and none of them is a record."""
    left_out = LeftOut() if left_out is None else left_out
    empty = True
    for file in sorted(path.glob("*.jsonl")) if path.is_dir() else [path]:
        for record in _read_file(file, left_out):
            empty = False
            yield record
    if empty and left_out.lines:
        more = f"; and {left_out.lines - 1} more" if left_out.lines > 1 else ""
        raise RecordError(left_out.reasons[0] + more)


def is_record_set(path: Path) -> bool:
    """Return whether a path is a folder, or a .jsonl file with a line of a record's type."""
    if path.suffix != ".jsonl":
        return path.is_dir()
    return any(_has_record_type(text) for _, text in _lines(path, LeftOut()))


def _has_record_type(text: bytes) -> bool:
    try:
        line = from_json(text)
    except ValueError:
        return False
    return isinstance(line, dict) and line.get("type") in ("policy", "exchange")


def _read_file(path: Path, left_out: LeftOut) -> Iterator[Record]:
    policies: dict[str, Policy] = {}
    for where, text in _lines(path, left_out):
        try:
            line = _parse(text, left_out)
            policy = policies[line.digest] = _policy_of(line, policies)
        except ValueError as error:
            left_out.add(where, str(error))
        else:
            if isinstance(line, ExchangeLine):
                yield Record.model_construct(exchange=line, policy=policy)


def _lines(path: Path, left_out: LeftOut) -> Iterator[tuple[str, bytes]]:
    """Each line of a file with where it stands."""
    try:
        with path.open("rb") as lines:
            for number, text in enumerate(lines, 1):
                yield f"{path}:{number}", text
    except OSError as error:
        left_out.add(str(path), f"cannot be read: {error.strerror}")


def _policy_of(line: PolicyLine | ExchangeLine, policies: dict[str, Policy]) -> Policy:
    """The policy that it holds, or ran under. Raises ValueError."""
    policy = line.policy if isinstance(line, PolicyLine) else policies.get(line.digest)
    if policy is None:
        raise ValueError(f"no policy line with digest {line.digest} before this exchange")
    return policy


def _parse(text: bytes, left_out: LeftOut) -> PolicyLine | ExchangeLine:
    """The line, without keys that only a newer minor format knows. Raises ValueError, which says what is wrong."""
    try:
        line = AnyLine.validate_json(text)
    except ValidationError as error:
        version = _version_of(text)
        check_major(version)
        if not is_newer_minor(version):
            raise ValueError(_explain(error)) from error
        return _parse_newer(text, left_out)
    check_major(parse_version(line.format))
    return line


def _version_of(text: bytes) -> Version:
    """That of any JSON; the known one if there is none. Raises ValueError."""
    try:
        line = from_json(text)
    except ValueError:
        return KNOWN
    return parse_version(line.get("format", CURRENT)) if isinstance(line, dict) else KNOWN


def _parse_newer(text: bytes, left_out: LeftOut) -> PolicyLine | ExchangeLine:
    """Raises ValueError if more is unknown than keys."""
    line = from_json(text)
    unknown: set[str] = set()
    while True:
        try:
            parsed = AnyLine.validate_json(to_json(line))
        except ValidationError as error:
            extra = [detail["loc"] for detail in error.errors() if detail["type"] == "extra_forbidden"]
            if not extra:
                raise ValueError(_explain(error)) from error
            unknown |= {_remove(line, loc) for loc in extra}
        else:
            left_out.keys.update(unknown)
            return parsed


def _remove(line: dict[str, Any], loc: Sequence[str | int]) -> str:
    """Takes a key out of a line, and returns its path without places in lists. Raises ValueError if it isn't there."""
    value: Any = line
    for step in loc[1:-1]:  # the first names the kind of line
        # Of unions within, `loc` names the member too, which is no key.
        if step in (value if isinstance(value, dict) else range(len(value))):
            value = value[step]
    if not isinstance(value, dict) or loc[-1] not in value:
        raise ValueError(f"{'.'.join(map(str, loc))}: can't be ignored")
    del value[loc[-1]]
    return ".".join(step for step in loc if isinstance(step, str))


def _explain(error: ValidationError) -> str:
    detail = error.errors()[0]
    where = ".".join(map(str, detail["loc"]))
    return f"{where or 'the line'}: {detail['msg']}"
