"""Parses the origin of a URL, checks headers and builds request heads."""

import re
from collections.abc import Mapping
from string import punctuation
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from gateway import __version__

DEFAULT_PORTS = {"http": 80, "https": 443}
FRAMING_HEADERS = frozenset({"content-length", "transfer-encoding"})

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LINE_BREAK = re.compile(r"[\r\n\0]")


class Origin(NamedTuple):
    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """Value of the Host header, with the port unless it is the scheme's default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_origin(url: str) -> Origin:
    """Return the origin of a URL. Raises ValueError if no HTTP request can be sent to it."""
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError("the URL of an upstream must be http://HOST or https://HOST")
    if "@" in parts.netloc:
        raise ValueError(f"the URL of {parts.hostname} must not hold a name or password: use a header")
    return Origin(parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme])


def check_headers(headers: Mapping[str, str]) -> None:
    """Check that no header breaks the request head. Raises ValueError, which names the header but not its
    value."""
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"the header {name!r} has a name that HTTP does not allow")
        if name.lower() in FRAMING_HEADERS:
            raise ValueError(f"the header {name!r} is set for each request by itself")
        if _LINE_BREAK.search(value):
            raise ValueError(f"the header {name!r} has a line break in its value")


def build_request_head(method: str, url: str, headers: Mapping[str, str]) -> bytes:
    """Return the request line and header lines, without the final empty line. `headers` override the
    defaults."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    defaults = {"Host": parse_origin(url).authority, "User-Agent": f"smallfirst/{__version__}"}
    lines = {name.lower(): f"{name}: {value}" for name, value in (defaults | dict(headers)).items()}
    return "\r\n".join([f"{method} {quote(target, safe=punctuation)} HTTP/1.1", *lines.values(), ""]).encode()
