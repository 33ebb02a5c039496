"""Where an upstream is, and the request heads that it is sent."""

import re
from collections.abc import Mapping
from string import punctuation
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from gateway import __version__

PORTS = {"http": 80, "https": 443}
FRAMING = frozenset({"content-length", "transfer-encoding"})

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BREAK = re.compile(r"[\r\n\0]")


class Origin(NamedTuple):
    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """As the Host header has it: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def origin_of(url: str) -> Origin:
    """Raises ValueError for a URL that no HTTP request can be sent to."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError("the URL of an upstream must be http://HOST or https://HOST")
    if "@" in parts.netloc:
        raise ValueError(f"the URL of {parts.hostname} must not hold a name or password: use a header")
    return Origin(parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme])


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises ValueError, which names the header and never its value, where one would break the request's head."""
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"the header {name!r} has a name that HTTP does not allow")
        if name.lower() in FRAMING:
            raise ValueError(f"the header {name!r} is set for each request by itself")
        if _BREAK.search(value):
            raise ValueError(f"the header {name!r} has a line break in its value")


def request_head(method: str, url: str, headers: Mapping[str, str]) -> bytes:
    """The request line and the header lines, without the empty one; `headers` replace ours of the same name."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    ours = {"Host": origin_of(url).authority, "User-Agent": f"smallfirst/{__version__}"}
    lines = {name.lower(): f"{name}: {value}" for name, value in (ours | dict(headers)).items()}
    return "\r\n".join([f"{method} {quote(target, safe=punctuation)} HTTP/1.1", *lines.values(), ""]).encode()
