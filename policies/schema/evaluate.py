"""The `evaluate` section of a policy: which served answers are judged, and by which evaluators."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, Tag
from pydantic import BeforeValidator as Before

from routers.judges.evaluators import (
    Agreement,
    Rating,
    Structure,
    Verification,
    expand_kind,
    kind_discriminator,
)

from .ceilings import Ceilings

AnyEvaluator = Annotated[
    Annotated[Verification, Tag("verify")]
    | Annotated[Rating, Tag("rate")]
    | Annotated[Agreement, Tag("agree")]
    | Annotated[Structure, Tag("structure")],
    kind_discriminator("verify", "rate", "agree", "structure"),
    Before(expand_kind),
]


class Evaluate(BaseModel):
    """Judges a share of the served answers of either model, so that quality is a time series."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    share: Annotated[float, Field(gt=0, le=1)]
    """Share of the answered exchanges that are judged."""
    evaluators: Annotated[tuple[AnyEvaluator, ...], Field(min_length=1, max_length=8)]
    """The evaluators: `verify`, `rate`, `agree` or `structure`, each as its kind alone or with its fields."""
    ceilings: Ceilings = Ceilings()
    """Limits on one evaluation; `calls` null: as many as its evaluators need."""
    usd_per_hour: Annotated[float, Field(gt=0)] | None = None
    """Dollars an hour; once they are spent, no evaluation begins until the hour is over. null: no limit."""

    @property
    def max_calls(self) -> int:
        return max(1, sum(evaluator.calls for evaluator in self.evaluators))
