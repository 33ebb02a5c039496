"""Measured quality of evaluators by judging model, read from `evaluators.json`.

`python -m benchmarks.evaluators` writes that file.
"""

from functools import cache
from typing import Any

from pydantic import TypeAdapter

from routers.confidence.calibration import Source
from routers.strict import Finite

from .layers import BUILT_IN

PATH = BUILT_IN / "evaluators.json"


class Measured(Finite):
    """How well an evaluator tells right answers from wrong ones on labelled data."""

    evaluator: str
    """The evaluator's name in results, such as `rate:correctness`."""
    made_for: Source
    """The model and engine that judged."""
    data: str
    """The labelled data set."""
    answers: int
    auroc: tuple[float, float, float]
    """The area under the ROC curve, and the low and high end of its 95 % interval."""

    @property
    def chance(self) -> bool:
        """True if the evaluator may be no better than chance: the interval contains 0.5 or lies below it."""
        return self.auroc[1] <= 0.5

    def told(self) -> dict[str, Any]:
        return {
            "auroc": list(self.auroc),
            "answers": self.answers,
            "data": self.data,
            "no_better_than_chance": self.chance,
        }


@cache
def _all() -> tuple[Measured, ...]:
    if not PATH.exists():
        return ()
    return TypeAdapter(tuple[Measured, ...]).validate_json(PATH.read_bytes())


def measured(evaluator: str, source: Source) -> Measured | None:
    """Return the result of `evaluator` on this model and engine, or None if it was never measured there."""
    return next((one for one in _all() if one.evaluator == evaluator and one.made_for.matches(source)), None)
