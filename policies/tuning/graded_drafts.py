"""Records joined with grades: what a calibrator learns from."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from policies.records.reader import read_records
from policies.records.schema import Line, Record, RecordError
from routers.plan import Token


class Grade(Line):
    """Whether one exchange's answer was right. `split` is by template: no template is in both."""

    id: str
    item: str
    kind: str
    template: str
    split: Literal["train", "held_out"]
    right: bool


@dataclass(frozen=True, slots=True)
class GradedDraft:
    """`features` are what was measured of the prompt; none where that is not known. `renormalised`: as of its
    request."""

    grade: Grade
    tokens: Sequence[Token]
    finish: str | None
    seconds: float
    features: Mapping[str, float] = field(default_factory=dict)
    renormalised: bool = False


Predictor = Callable[[GradedDraft], float]
"""A draft -> how probably it is right, in [0, 1]."""

MeasurePrompt = Callable[[dict[str, Any]], Mapping[str, float]]
"""A request's body -> the measures of its prompt."""

Read = Callable[[Path], Iterable[Record]]
"""A file or folder -> its records."""


GRADES_FILE = "grades.json"
"""A JSON list beside the records, so that a folder of both is one graded set."""


def read_graded(
    folder: Path, measure: MeasurePrompt | None = None, read: Read = read_records
) -> list[GradedDraft]:
    """The finished small-model drafts of a folder of records that have a grade, and an answer to learn from; prompts
    that are in the records, and not measured yet, are measured. Raises RecordError."""
    grades = {grade.id: grade for grade in _read_grades(folder / GRADES_FILE)}
    return list(_join_grades(read(folder), grades, measure))


def _read_grades(path: Path) -> list[Grade]:
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
