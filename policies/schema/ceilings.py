"""What one exchange may take."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Ceilings(BaseModel):
    """What one exchange may take, whatever its router asks for."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    calls: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Upstream calls; null: as many as the strategy takes at most, 8 or, where it speculates, 1024. That of a
    compression, and those of a `filter`, one a passage, come on top."""
    tokens: Annotated[int, Field(gt=0)] | None = None
    """Tokens that all calls together write; null: as many as the request allows."""
    usd: Annotated[float, Field(gt=0)] | None = None
    """Dollars of all calls together; a prompt's cost is estimated before it is sent."""
    seconds: Annotated[float, Field(gt=0)] | None = None
    """From the request's arrival to the answer's end."""
