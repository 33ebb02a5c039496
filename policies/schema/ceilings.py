"""The `ceilings` section of a policy: limits on one exchange."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Ceilings(BaseModel):
    """Limits on what one exchange may spend, whatever its router asks for."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    calls: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Maximum upstream calls; null: the strategy's own maximum, which is 8, or 1024 if it speculates. The
    call of a compression and the calls of a `filter` (one a passage) are not counted."""
    tokens: Annotated[int, Field(gt=0)] | None = None
    """Maximum tokens that all calls together may write; null: as many as the request allows."""
    usd: Annotated[float, Field(gt=0)] | None = None
    """Maximum cost of all calls together, in dollars. A prompt's cost is estimated before it is sent."""
    seconds: Annotated[float, Field(gt=0)] | None = None
    """Maximum seconds from the request's arrival to the answer's end."""
