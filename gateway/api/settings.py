"""The key `listen` of smallfirst.yaml."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from gateway.upstreams.transport.hosts import is_loopback_host
from routers.config_models import Count, Seconds, Strict

DEFAULT_PORTS = {"http": 80, "https": 443}


def _check_origin(value: str) -> str:
    """Return an origin as browsers write it, without a default port. Raises ValueError."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if not (parts.scheme and parts.hostname) or parts.path not in ("", "/") or "@" in parts.netloc:
        raise ValueError("expected an origin as browsers send it, such as https://app.example.com")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    is_default = port in (None, DEFAULT_PORTS.get(parts.scheme))
    return f"{parts.scheme}://{host}" + ("" if is_default else f":{port}")


Origin = Annotated[str, AfterValidator(_check_origin)]


class Listen(Strict):
    host: str = "127.0.0.1"
    """Address to listen on. Any other than loopback needs `open: true`."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """Port to listen on."""
    open: bool = False
    """Whether other machines may use the gateway, though clients are not authenticated."""
    origins: tuple[Origin, ...] = ()
    """Web pages that may use the gateway, by their origins: `https://app.example.com`. On loopback, a proxy that
    passes on its own name as `Host` needs that name here too."""
    body_limit: Count = 20_000_000
    """Largest request body, in bytes, compressed or not."""
    head_timeout: Seconds = 10.0
    """Seconds within which a request's head must arrive."""
    body_timeout: Seconds = 30.0
    """Seconds without a byte after which an unfinished request body is given up."""
    drain: Seconds = 10.0
    """Seconds that requests under way get when the gateway is told to stop; then they end with an error, status 503."""
    heartbeat_after: Seconds = 5.0
    """Seconds without a byte after which a stream gets a comment line, its headers first if they have not left."""

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        if not (self.open or is_loopback_host(self.host)):
            raise ValueError(
                f"host {self.host!r} lets other machines spend your money, since clients are not authenticated:"
                " listen on 127.0.0.1, or set listen.open: true (SMALLFIRST_LISTEN__OPEN=true) if that is meant"
            )
        return self
