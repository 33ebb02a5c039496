"""Reads record files, and accounts for the lines that it can't read."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from policies.schema import Policy

from .records import AnyLine, ExchangeLine, PolicyLine, Record, RecordError

MAX_REASONS = 3
"""Lines that are named; further ones are counted."""
MAX_LENGTH = 300
"""Characters of a reason: it may quote what is in the file."""


@dataclass
class LeftOut:
    """What could not be read: how many lines (a file that can't be read counts as one), and why, of the first few."""

    lines: int = 0
    reasons: list[str] = field(default_factory=list)
    """Each names file and line."""

    def add(self, where: str, why: str) -> None:
        self.lines += 1
        if len(self.reasons) < MAX_REASONS:
            printable = "".join(letter if letter.isprintable() else " " for letter in why[:MAX_LENGTH])
            self.reasons.append(f"{where}: {printable}")

    def __str__(self) -> str:
        """One line; empty where nothing was left out."""
        if not self.lines:
            return ""
        more = self.lines - len(self.reasons)
        named = "; ".join([*self.reasons, *([f"and {more} more"] if more else [])])
        return f"{self.lines} {'line' if self.lines == 1 else 'lines'} of records left out: {named}"


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


def _read_file(path: Path, left_out: LeftOut) -> Iterator[Record]:
    policies: dict[str, Policy] = {}
    for where, text in _lines(path, left_out):
        try:
            line = _parse(text)
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


def _parse(text: bytes) -> PolicyLine | ExchangeLine:
    """Raises ValueError, which says what is wrong with the line."""
    try:
        return AnyLine.validate_json(text)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"]))
        raise ValueError(f"{where or 'the line'}: {detail['msg']}") from error
