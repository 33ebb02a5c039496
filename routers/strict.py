"""What configuration is made of: models that refuse unknown keys and never change, and bounded numbers."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Finite(Strict):
    """Its numbers are finite as well."""

    model_config = ConfigDict(allow_inf_nan=False)
