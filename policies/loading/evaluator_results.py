"""Measured quality of evaluators by judging model, read from `evaluators.json`.

`python -m benchmarks.evaluators` writes that file.
"""

from functools import cache
from typing import Any

from pydantic import TypeAdapter

from routers.confidence.calibration import LogprobSource
from routers.config_models import Finite

from .layers import BUILT_IN

RESULTS_PATH = BUILT_IN / "evaluators.json"


class EvaluatorResult(Finite):
    """How well an evaluator tells right answers from wrong ones on labelled data."""

    evaluator: str
    """The evaluator's name in results, such as `rate:correctness`."""
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

    def to_summary(self) -> dict[str, Any]:
        return {
            "auroc": list(self.auroc),
            "answers": self.answers,
            "data": self.data,
            "no_better_than_chance": self.is_chance_level,
        }


@cache
def _read_results() -> tuple[EvaluatorResult, ...]:
    if not RESULTS_PATH.exists():
        return ()
    return TypeAdapter(tuple[EvaluatorResult, ...]).validate_json(RESULTS_PATH.read_bytes())


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
