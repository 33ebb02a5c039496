"""Joins records with grades to the drafts that a calibrator or a scorer learns from."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from policies.records.reader import LeftOut, read_records
from policies.records.schema import Record
from routers.confidence.signals import SignalName, Signals, compute_signals
from routers.plan import Token
from routers.watch import checkpoints

from .grades import Grade, read_grades
from .manifest import read_manifest


@dataclass(frozen=True, eq=False)
class GradedDraft:
    """A finished draft of the small model with its grade. `features` are the prompt's; empty if they are unknown.
    `renormalised` is as in `routers.router.Request`."""

    grade: Grade
    tokens: Sequence[Token]
    finish: str | None
    seconds: float
    features: Mapping[str, float] = field(default_factory=dict)
    renormalised: bool = False

    @cached_property
    def signals(self) -> Mapping[SignalName, float]:
        """The signals of the finished draft. Several fits use them."""
        return compute_signals(self.tokens, self.finish)

    @cached_property
    def prefix_signals(self) -> Sequence[Mapping[SignalName, float]]:
        """The signals of the draft's prefixes, cut where a watch computes the confidence."""
        collected = Signals()
        answer = sum(not token.reasoning for token in self.tokens)
        checks, count, signals = set(checkpoints(answer)), 0, []
        for token in self.tokens:
            collected.add(token)
            count += not token.reasoning
            if not token.reasoning and count in checks:
                signals.append(collected.compute())
        return signals


Predictor = Callable[[GradedDraft], float]
"""Returns the probability that a draft is right, in [0, 1]."""

MeasurePrompt = Callable[[dict[str, Any]], Mapping[str, float]]
"""Returns the features of the prompt in a request's body."""

Read = Callable[[Path], Iterable[Record]]
"""Returns the records in a file or a folder."""


def read_graded(
    folder: Path,
    measure: MeasurePrompt | None = None,
    read: Read = read_records,
    left_out: LeftOut | None = None,
) -> list[GradedDraft]:
    """Return the small model's finished drafts in a folder that have a grade and an answer; of a
    collection at most one for each item.

    Prompts without recorded features are measured with `measure`, if the records hold them. Grades that cannot be read
    are added to `left_out`. Raises RecordError if there are no grades, or no record can be read."""
    grades = {grade.id: grade for grade in read_grades(folder, left_out)}
    drafts = list(_join_grades(read(folder), grades, measure))
    if read_manifest(folder) is None:  # an older set, whose items may have any names
        return drafts
    return list({draft.grade.item: draft for draft in drafts}.values())


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
