"""Settings: the key `responses` of smallfirst.yaml."""

from typing import Annotated

from pydantic import Field

from routers.config_models import Count, Strict


class ResponseSettings(Strict):
    """Bounds of the responses that are kept for later turns. What was not used for longest goes first."""

    count: Annotated[int, Field(ge=0)] = 10_000
    """Most responses kept. 0 keeps none."""
    bytes: Count = 67_108_864
    """Most bytes of all of them, with their inputs."""
    minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1440.0
    """How long one is kept after its last use."""
