"""Refuses requests of foreign web pages, and answers those of listed origins with CORS headers.

A page may send requests to any address that its browser reaches, and so spend the user's money. A browser marks what a
page sends with `Origin` or `Sec-Fetch-Site`. A page whose own name was made to point here (DNS rebinding) is known by
its `Host`.
"""

from collections.abc import Awaitable, Mapping, MutableMapping, Sequence
from functools import lru_cache
from typing import Any

from gateway.api.request_body import Scope
from gateway.api.writers import Headers, Send
from gateway.errors import ApiError
from gateway.upstreams.transport.hosts import is_address, is_loopback_host

RESERVED_TOP_LABEL = "internal"
"""A label that no public name ends in, so no page can be served from one: containers reach their host by such names."""
PREFLIGHT_HEADERS: Headers = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, DELETE"),
    (b"access-control-allow-private-network", b"true"),
    (b"access-control-max-age", b"7200"),
    (b"content-length", b"0"),
]


class BrowserAccess:
    """Decides which web pages may use the gateway.

    `origins` are the pages that may. `is_loopback` says that the gateway listens on this machine only, so that a
    request's `Host` is known beforehand.
    """

    def __init__(self, origins: Sequence[str], *, is_loopback: bool) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)
        self._hosts = frozenset(_read_name(origin.partition("://")[2].encode()) for origin in origins)
        self._is_loopback = is_loopback

    def admit(self, scope: Scope, send: Send) -> Send:
        """Return what sends the response: `send`, or for a listed origin one that adds CORS headers.

        Raises ApiError for a request of a foreign page.
        """
        headers = dict(scope["headers"])
        host = headers.get(b"host")
        if self._is_loopback and host and not (_is_local_host(host) or self._is_own_host(host)):
            raise _refuse_host(host)
        origin = headers.get(b"origin")
        if origin is None:
            if b"sec-fetch-site" in headers and _is_foreign_fetch(scope["method"], headers):
                raise _refuse_origin("another web page", "")
            return send
        if origin in self._origins:
            return CorsResponse(send, origin)
        if host and self._is_own_origin(origin, host):
            return send
        text = origin.decode("latin-1")
        raise _refuse_origin(f"the origin {text!r}", f" ({text})")

    def _is_own_host(self, host: bytes) -> bool:
        return _is_local_host(host) or _read_name(host) in self._hosts

    def _is_own_origin(self, origin: bytes, host: bytes) -> bool:
        """Return whether the page was served from this address, by a name that no other server's page can have."""
        is_same = origin.partition(b"://")[2].lower() == host.lower()
        return is_same and (
            self._is_own_host(host) or (not self._is_loopback and is_address(_read_name(host)))
        )


class CorsResponse:
    """Sends an ASGI response with the headers by which a browser lets the page at `origin` read it."""

    __slots__ = ("_origin", "_send")

    def __init__(self, send: Send, origin: bytes) -> None:
        self._send = send
        self._origin = origin

    def __call__(self, message: MutableMapping[str, Any]) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            message["headers"] = [*headers, *self._build_headers(headers)]
        return self._send(message)

    def _build_headers(self, headers: Headers) -> Headers:
        """Return CORS headers. Without `expose`, a page reads none of a response's own headers."""
        exposed = [name for name, _ in headers if name.startswith(b"x-") or name == b"retry-after"]
        expose = [(b"access-control-expose-headers", b", ".join(exposed))] if exposed else []
        return [(b"access-control-allow-origin", self._origin), (b"vary", b"origin"), *expose]


def is_preflight(scope: Scope) -> bool:
    """Return whether a browser asks, before a page's request, if the page may send it."""
    return scope["method"] == "OPTIONS" and any(
        name == b"access-control-request-method" for name, _ in scope["headers"]
    )


async def respond_preflight(scope: Scope, send: Send) -> None:
    """Allow a request of a page that `admit` has let pass, with whatever headers it has (`x-stainless-*` and more)."""
    wanted = dict(scope["headers"]).get(b"access-control-request-headers", b"*")
    headers = [*PREFLIGHT_HEADERS, (b"access-control-allow-headers", wanted)]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _is_foreign_fetch(method: str, headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a page elsewhere caused a request without `Origin`. A link that somebody follows is none."""
    if headers[b"sec-fetch-site"] in (b"same-origin", b"none"):
        return False
    return method != "GET" or headers.get(b"sec-fetch-dest") != b"document"


@lru_cache(maxsize=256)
def _is_local_host(host: bytes) -> bool:
    name = _read_name(host)
    return is_loopback_host(name) or name.rpartition(".")[2] == RESERVED_TOP_LABEL


def _read_name(authority: bytes) -> str:
    """Return the name or address in `name:port`, without brackets and in lower case."""
    text = authority.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].rstrip(".")


def _refuse_host(host: bytes) -> ApiError:
    name = host.decode("latin-1")
    what = (
        f"the host {name!r} is not this machine: the gateway listens on loopback only. If a proxy of yours sends it,"
        " list the proxy's address, as https://name, in listen.origins"
    )
    return ApiError(403, "host_not_allowed", what)


def _refuse_origin(who: str, example: str) -> ApiError:
    what = f"{who} may not use this gateway: list the page's origin{example} in listen.origins if it is yours"
    return ApiError(403, "origin_not_allowed", what)
