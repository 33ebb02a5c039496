"""A policy's `evaluate` section: which of its answers are judged once they are given, and by whom."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, Tag
from pydantic import BeforeValidator as Before

from routers.judges.evaluators import Agreeing, Rating, Structure, Verification, by_kind, spelled_out

from .ceilings import Ceilings

AnyEvaluator = Annotated[
    Annotated[Verification, Tag("verify")]
    | Annotated[Rating, Tag("rate")]
    | Annotated[Agreeing, Tag("agree")]
    | Annotated[Structure, Tag("structure")],
    by_kind("verify", "rate", "agree", "structure"),
    Before(spelled_out),
]


class Evaluate(BaseModel):
    """Answers of either model that are judged once they are given, so that quality is a time series."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    share: Annotated[float, Field(gt=0, le=1)]
    """Of the exchanges that are answered."""
    evaluators: Annotated[tuple[AnyEvaluator, ...], Field(min_length=1, max_length=8)]
    """Who judges: `verify`, `rate`, `agree` or `structure`, each by its kind alone or with its fields."""
    ceilings: Ceilings = Ceilings()
    """What one evaluation may take; `calls` null: as many as its evaluators take."""
    usd_per_hour: Annotated[float, Field(gt=0)] | None = None
    """Dollars after which no more evaluations begin within the hour; null: no such limit."""

    @property
    def calls(self) -> int:
        return max(1, sum(evaluator.calls for evaluator in self.evaluators))
