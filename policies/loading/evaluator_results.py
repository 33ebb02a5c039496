"""Measured quality of evaluators and guards by judging model.

`python -m benchmarks.evaluators` writes `evaluators.json`, and `python -m benchmarks.guard` writes `guard.json`.
"""

from functools import cache
from typing import Any

from pydantic import TypeAdapter

from routers.confidence.calibration import LogprobSource
from routers.config_models import Finite

from .layers import BUILT_IN

RESULTS_PATH = BUILT_IN / "evaluators.json"
GUARD_RESULTS_PATH = BUILT_IN / "guard.json"


class EvaluatorResult(Finite):
    """How well an evaluator tells right answers from wrong ones on labelled data."""

    evaluator: str
    """The evaluator's name in results, such as `rate:correctness`; `guard:input` or `guard:output` for a guard's
    question."""
    made_for: LogprobSource
    """The model and engine that judged."""
    data: str
    """The labelled data set."""
    answers: int
    auroc: tuple[float, float, float]
    """The area under the ROC curve, and the low and high end of its 95 % interval."""

    @property
    def is_chance_level(self) -> bool:
        """True if the evaluator may be no better than chance: the interval contains 0.5 or lies below it."""
        return self.auroc[1] <= 0.5

    def describe(self) -> str:
        """Return a clause that says how good it is, such as `verify was no better than chance on small (...)`."""
        value, low, high = self.auroc
        worth = "no better" if self.is_chance_level else "better"
        return (
            f"{self.evaluator} was {worth} than chance on {self.made_for.model} "
            f"(AUROC {value:.2f}, {low:.2f} to {high:.2f}, {self.answers} answers of {self.data})"
        )

    def to_summary(self) -> dict[str, Any]:
        return {
            "auroc": list(self.auroc),
            "answers": self.answers,
            "data": self.data,
            "no_better_than_chance": self.is_chance_level,
        }


@cache
def _read_results() -> tuple[EvaluatorResult, ...]:
    read = TypeAdapter(tuple[EvaluatorResult, ...]).validate_json
    paths = [path for path in (RESULTS_PATH, GUARD_RESULTS_PATH) if path.exists()]
    return tuple(result for path in paths for result in read(path.read_bytes()))


def find_result(evaluator: str, source: LogprobSource) -> EvaluatorResult | None:
    """Return the result of `evaluator` on this model and engine, or None if it was never measured there."""
    return next(
        (
            result
            for result in _read_results()
            if result.evaluator == evaluator and result.made_for.matches(source)
        ),
        None,
    )
