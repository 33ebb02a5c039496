"""The second judgement of a finished draft in a cascade: an evaluator and the score from which it accepts."""

from typing import Annotated, Self

from pydantic import Field, Tag, model_validator

from routers.config_models import Finite

from .evaluators import Agreement, Rating, Verification, kind_discriminator

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class DoubtfulDrafts(Finite):
    """Limits a judgement to accepted drafts of low confidence."""

    below: Probability = 1.0
    """Only accepted drafts with a confidence below this are judged; the others are served at once."""


class Verify(DoubtfulDrafts, Verification):
    """Judges whether the draft is correct."""

    accept: Probability = 0.5
    """Lowest P(yes) at which the draft is served."""


class Rate(DoubtfulDrafts, Rating):
    """Rates the draft by a rubric."""

    accept: Annotated[float, Field(ge=1.0, le=9.0)]
    """Lowest score, on the rubric's scale, at which the draft is served."""

    @model_validator(mode="after")
    def _check_rubric(self) -> Self:
        if self.accept > self.rubric.scale:
            raise ValueError(f"accept must be a score of the rubric, at most {self.rubric.scale}")
        if self.needs_context:
            raise ValueError(
                f"the rubric {self.rubric.name} names {{context}}, and a draft is judged without one; expected a "
                "rubric that does not"
            )
        return self


class Agree(DoubtfulDrafts, Agreement):
    """Compares the draft with new samples of its request."""

    accept: Probability = 0.5
    """Lowest agreement at which the draft is served."""


DraftJudge = Annotated[
    Annotated[Verify, Tag("verify")] | Annotated[Rate, Tag("rate")] | Annotated[Agree, Tag("agree")],
    kind_discriminator("verify", "rate", "agree"),
]
