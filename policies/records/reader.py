"""Reads record files, and counts the lines that cannot be read."""

import json
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

GRADES_FILE = "grades.jsonl"
"""The name of the file of grades in a folder of records. It holds no records."""

MAX_NAMED = 3
"""Maximum number of lines, and of keys, that a warning names. It counts the others."""
MAX_LENGTH = 300
"""Maximum characters of a reason."""


@dataclass
class LeftOut:
    """Counts the lines that could not be read (an unreadable file counts as one), with the reasons of the first few."""

    lines: int = 0
    reasons: list[str] = field(default_factory=list)
    """Why lines were left out. Each names file and line."""
    keys: Counter[str] = field(default_factory=Counter)
    """Keys of a newer format, ignored in records that were read, with the number of lines that had them."""

    def add(self, where: str, why: str) -> None:
        """Count one line. `where` is its file and line number."""
        self.lines += 1
        if len(self.reasons) < MAX_NAMED:
            self.reasons.append(f"{where}: {_printable(why)}")

    def __str__(self) -> str:
        """Return one line of text; empty if nothing was left out."""
        return "; ".join(filter(None, [self._describe_lines(), self._describe_keys()]))

    def _describe_lines(self) -> str:
        if not self.lines:
            return ""
        others = self.lines - len(self.reasons)
        reasons = "; ".join([*self.reasons, *([f"and {others} more"] if others else [])])
        return f"{_count(self.lines, 'line')} of records left out: {reasons}"

    def _describe_keys(self) -> str:
        if not self.keys:
            return ""
        first = sorted(self.keys.items())[:MAX_NAMED]
        keys = [f"{_printable(key)} ({_count(lines, 'line')})" for key, lines in first]
        others = len(self.keys) - len(first)
        return f"keys of a newer format ignored: {', '.join([*keys, *([f'and {others} more'] if others else [])])}"


def _printable(text: str) -> str:
    """Return text that may quote a file as one line of at most `MAX_LENGTH` printable characters."""
    return "".join(character if character.isprintable() else " " for character in text[:MAX_LENGTH])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def read_records(path: Path, left_out: LeftOut | None = None) -> Iterator[Record]:
    """Yield the records of a .jsonl file, or of all .jsonl files in a folder but its grades. Lines that cannot be read
    are added to `left_out`.

    Raises RecordError after the last file if there are lines and none of them is a record."""
    left_out = LeftOut() if left_out is None else left_out
    is_empty = True
    for file in _list_files(path):
        for record in _read_file(file, left_out):
            is_empty = False
            yield record
    if is_empty and left_out.lines:
        others = f"; and {left_out.lines - 1} more" if left_out.lines > 1 else ""
        raise RecordError(left_out.reasons[0] + others)


def _list_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.glob("*.jsonl") if file.name != GRADES_FILE)


def is_record_set(path: Path) -> bool:
    """Return whether a path is a folder, or a .jsonl file with a line of a record's type."""
    if path.suffix != ".jsonl":
        return path.is_dir()
    return any(_has_record_type(text) for _, text in _read_lines(path, LeftOut()))


def _has_record_type(text: bytes) -> bool:
    try:
        line = from_json(text)
    except ValueError:
        return False
    return isinstance(line, dict) and line.get("type") in ("policy", "exchange")


def _read_file(path: Path, left_out: LeftOut) -> Iterator[Record]:
    policies: dict[str, Policy] = {}
    for where, text in _read_lines(path, left_out):
        try:
            line = _parse(text, left_out)
            policy = policies[line.digest] = _find_policy(line, policies)
        except Exception as error:  # whatever a line holds, the others are read
            left_out.add(where, str(error))
        else:
            if isinstance(line, ExchangeLine):
                yield Record.model_construct(exchange=line, policy=policy)


def _read_lines(path: Path, left_out: LeftOut) -> Iterator[tuple[str, bytes]]:
    """Yield each line of a file with its place, `file:number`."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        left_out.add(str(path), "cannot be read: it is no regular file")
        return
    try:
        with path.open("rb") as lines:
            for number, text in enumerate(lines, 1):
                yield f"{path}:{number}", text
    except OSError as error:
        left_out.add(str(path), f"cannot be read: {error.strerror}")


def _find_policy(line: PolicyLine | ExchangeLine, policies: dict[str, Policy]) -> Policy:
    """Return the policy that a line holds, or that its exchange ran under. Raises ValueError if no line held it."""
    policy = line.policy if isinstance(line, PolicyLine) else policies.get(line.digest)
    if policy is None:
        raise ValueError(f"no policy line with digest {line.digest} before this exchange")
    return policy


def _parse(text: bytes, left_out: LeftOut) -> PolicyLine | ExchangeLine:
    """Parse a line, without the keys that only a newer minor version knows. Raises ValueError, whose text is the reason
    for leaving the line out."""
    try:
        line = AnyLine.validate_json(text)
    except ValidationError as error:
        if "recursion limit" in str(error):
            return _parse_deep(text, error)
        version = _read_version(text)
        check_major(version)
        if not is_newer_minor(version):
            raise ValueError(_explain(error)) from error
        return _parse_newer(text, left_out)
    check_major(parse_version(line.format))
    return line


def _parse_deep(text: bytes, error: ValidationError) -> PolicyLine | ExchangeLine:
    """Parse a line whose content nests deeper than pydantic's own parser goes. Raises ValueError like `_parse`."""
    try:
        return AnyLine.validate_python(json.loads(text))
    except (ValueError, RecursionError):
        raise ValueError(_explain(error)) from error


def _read_version(text: bytes) -> Version:
    """Return the format's version of a line, or the known version if the line has none or is not JSON. Raises
    ValueError if the line's `format` is not a version."""
    try:
        line = from_json(text)
    except ValueError:
        return KNOWN
    return parse_version(line.get("format", CURRENT)) if isinstance(line, dict) else KNOWN


def _parse_newer(text: bytes, left_out: LeftOut) -> PolicyLine | ExchangeLine:
    """Parse a line of a newer minor version without its unknown keys. Raises ValueError if anything else is wrong."""
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
    """Remove a key from a line, and return its path without list indices. Raises ValueError if the key is not there."""
    value: Any = line
    for step in loc[1:-1]:  # the first step names the kind of line
        # In a union, `loc` also has the name of the member, which is not a key.
        if step in (value if isinstance(value, dict) else range(len(value))):
            value = value[step]
    if not isinstance(value, dict) or loc[-1] not in value:
        raise ValueError(f"{'.'.join(map(str, loc))}: can't be ignored")
    del value[loc[-1]]
    return ".".join(step for step in loc if isinstance(step, str))


def _explain(error: ValidationError) -> str:
    """Return the first error with the path of its key."""
    detail = error.errors()[0]
    where = ".".join(map(str, detail["loc"]))
    return f"{where or 'the line'}: {detail['msg']}"
