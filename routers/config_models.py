"""Base models for configuration (frozen, unknown keys refused) and bounded number types."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Finite(Strict):
    """A `Strict` model that also refuses infinite numbers and NaN."""

    model_config = ConfigDict(allow_inf_nan=False)
