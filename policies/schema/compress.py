"""Prompt compression: what a policy says of it."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Word = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]


class Compress(BaseModel):
    """What the large model reads is shortened first, by what the small one finds in it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    target_ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Tokens of the prompt's texts after compression, as a share of those before."""
    target_tokens: Annotated[int, Field(ge=1)] | None = None
    """The same as a number; exactly one of the two is given."""
    min_tokens: Annotated[int, Field(ge=0)] = 500
    """Shorter prompts are left as they are."""
    keep: Annotated[tuple[Word, ...], Field(max_length=200)] = ()
    """Words and phrases that stay wherever they stand, in upper case or lower."""
    question_aware: bool = True
    """Whether blocks are ranked by what the question tells of them; it reads the text twice."""
    system: bool = False
    """Whether the system prompt may be compressed too."""
    drop_numbers: bool = False
    """Whether a block that is left out takes its numbers with it, and others are kept nearly whole: for examples."""
    worth: Literal["both", "money", "always"] = "both"
    """What it must not cost more of than it saves, by an estimate: `both` time and money, `money` alone, or nothing."""
    seconds: Annotated[float, Field(gt=0)] = 60.0
    """How long the small model may read at most, and at most half of `ceilings.seconds`: a prompt that is estimated to
    take longer, or does, is left as it is."""

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.target_ratio is None) == (self.target_tokens is None):
            raise ValueError("expected one of target_ratio and target_tokens")
        return self
