"""What evaluators were measured to be worth, by the model that judges: `evaluators.json`, which
`python -m benchmarks.evaluators` writes."""

from functools import cache
from typing import Any

from pydantic import TypeAdapter

from routers.confidence.calibration import Source
from routers.strict import Finite

from .layers import BUILT_IN

PATH = BUILT_IN / "evaluators.json"


class Measured(Finite):
    """An evaluator's discrimination between right and wrong answers, on labelled data."""

    evaluator: str
    """As results name it, `rate:correctness` for one."""
    made_for: Source
    """Who judged."""
    data: str
    """What was judged."""
    answers: int
    auroc: tuple[float, float, float]
    """With a 95 % interval."""

    @property
    def chance(self) -> bool:
        """Whether it may be no better than a coin: the interval has 0.5 in it, or lies below."""
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
    """None where nobody has measured it on this model and engine."""
    return next((one for one in _all() if one.evaluator == evaluator and one.made_for.matches(source)), None)
