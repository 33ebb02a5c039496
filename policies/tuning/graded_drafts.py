"""Joins records with grades to the drafts that a calibrator or a scorer learns from."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from policies.records.reader import read_records
from policies.records.schema import Line, Record, RecordError
from routers.plan import Token


class Grade(Line):
    """The grade of one exchange's answer. Each template is in one split only."""

    id: str
    item: str
    kind: str
    template: str
    split: Literal["train", "held_out"]
    right: bool


@dataclass(frozen=True, slots=True)
class GradedDraft:
    """A finished draft of the small model with its grade. `features` are the prompt's; empty if they are unknown.
    `renormalised` is as in `routers.router.Request`."""

    grade: Grade
    tokens: Sequence[Token]
    finish: str | None
    seconds: float
    features: Mapping[str, float] = field(default_factory=dict)
    renormalised: bool = False


Predictor = Callable[[GradedDraft], float]
"""Returns the probability that a draft is right, in [0, 1]."""

MeasurePrompt = Callable[[dict[str, Any]], Mapping[str, float]]
"""Returns the features of the prompt in a request's body."""

Read = Callable[[Path], Iterable[Record]]
"""Returns the records in a file or a folder."""


GRADES_FILE = "grades.json"
"""The name of the JSON list of grades in a folder of records."""


def read_graded(
    folder: Path, measure: MeasurePrompt | None = None, read: Read = read_records
) -> list[GradedDraft]:
    """Return the small model's finished drafts in a folder that have a grade and an answer.

    Prompts without recorded features are measured with `measure`, if the records hold them. Raises RecordError if the
    grades cannot be read, or no record can be."""
    grades = {grade.id: grade for grade in _read_grades(folder / GRADES_FILE)}
    return list(_join_grades(read(folder), grades, measure))


def _read_grades(path: Path) -> list[Grade]:
    """Raises RecordError if the file is missing or invalid."""
    try:
        return TypeAdapter(list[Grade]).validate_json(path.read_bytes())
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}; `smallfirst collect` writes it") from error
    except ValidationError as error:
        raise RecordError(f"{path}: {error}") from error


def _join_grades(
    records: Iterable[Record], grades: dict[str, Grade], measure: MeasurePrompt | None
) -> Iterator[GradedDraft]:
    for record in records:
        exchange = record.exchange
        grade = grades.get(exchange.id)
        if grade is None:
            continue
        features: Mapping[str, float] = exchange.request.features
        if not features and exchange.content and measure is not None:
            features = measure(exchange.content)
        for call in exchange.calls:
            tokens = call.tokens.to_tokens() if call.tokens else []
            has_answer = any(not token.reasoning for token in tokens)
            if call.tier == "slm" and call.outcome == "ok" and has_answer:
                renormalised = exchange.request.renormalised
                yield GradedDraft(grade, tokens, call.finish, call.seconds, features, renormalised)
