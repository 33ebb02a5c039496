"""The key `listen` of smallfirst.yaml."""

from typing import Annotated

from pydantic import Field

from routers.config_models import Count, Seconds, Strict


class Listen(Strict):
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """Port to listen on."""
    body_limit: Count = 20_000_000
    """Largest request body, in bytes."""
    heartbeat_after: Seconds = 5.0
    """Seconds without a byte after which a stream gets a comment line, its headers first if they have not left."""
