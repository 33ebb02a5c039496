"""What a policy file holds."""

import hashlib
from functools import cached_property
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from routers.cascade import Cascade
from routers.direct import Direct

AnyRouter = Annotated[Cascade | Direct, Field(discriminator="kind")]


class Policy(BaseModel):
    """When the small model's answer is good enough, and when the large one takes over."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Annotated[str, Field(pattern=r"^[!-~]+$")]
    """What a request's `model` names it by: the file's name without `.yaml`, never a key of the file."""
    description: Annotated[str, Field(min_length=1)]
    """For people."""
    router: AnyRouter
    """The strategy and its fields."""
    length_ratio: Annotated[float, Field(gt=0)] = 1.0
    """Tokens the LLM writes per token of the small model's served answer, for the estimate of what the LLM
    alone would have cost: 1.0 until measured."""

    @cached_property
    def digest(self) -> str:
        """Names this exact policy, its calibrator included, in records: 16 hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]
