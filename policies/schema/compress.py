"""The `compress` section of a policy: prompt compression before the large model reads."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Word = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]


class Compress(BaseModel):
    """Settings of prompt compression, in which the small model decides what the large model need not read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    target_ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Tokens of the prompt's texts after compression, as a share of the tokens before. Give exactly one of
    `target_ratio` and `target_tokens`."""
    target_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens of the prompt's texts after compression, as a number."""
    min_tokens: Annotated[int, Field(ge=0)] = 500
    """Prompts with fewer tokens are not compressed."""
    keep: Annotated[tuple[Word, ...], Field(max_length=200)] = ()
    """Words and phrases that are never dropped; upper and lower case count as the same."""
    question_aware: bool = True
    """Whether blocks are ranked by how much they have to do with the question. The small model then reads the
    text twice."""
    system: bool = False
    """Whether the system prompt may be compressed too."""
    drop_numbers: bool = False
    """Whether numbers in a dropped block are dropped too, and the other blocks are kept almost complete.
    Meant for prompts made of examples."""
    worth: Literal["both", "money", "always"] = "both"
    """What a compression must not, by an estimate, cost more of than it saves: `both` (time and money), `money`
    alone, or nothing (`always`)."""
    seconds: Annotated[float, Field(gt=0)] = 60.0
    """Maximum seconds that the small model may read, and never more than half of `ceilings.seconds`. A prompt
    that is estimated to take longer, or does take longer, is not compressed."""

    @model_validator(mode="after")
    def _check_target(self) -> Self:
        if (self.target_ratio is None) == (self.target_tokens is None):
            raise ValueError("expected one of target_ratio and target_tokens")
        return self
