"""URLs, headers and secrets of the requests to an upstream."""

from typing import NamedTuple
from urllib.parse import urlencode

from gateway.upstreams.providers.kinds import KINDS
from gateway.upstreams.settings import UpstreamSettings

PROBE = 10.0
"""Default seconds between probes of a server that is no cloud."""


BESIDE = ("tokenize", "detokenize", "apply-template", "completion", "embedding")
"""Pages of vLLM's and llama.cpp's servers beside `/v1`."""


class Probe(NamedTuple):
    """A free GET that shows whether a server is alive. `interval_s` is the seconds between probes, 0 for
    never."""

    url: str
    headers: dict[str, str]
    every: float


def urls_of(settings: UpstreamSettings) -> dict[str, str]:
    """Return the URLs of `chat`, `completions`, `embeddings` and `models`, and of the pages beside `/v1`."""
    paths = {
        "chat": settings.chat_path,
        "completions": settings.completions_path,
        "embeddings": settings.embeddings_path,
        "models": "/models",
    }
    base = base_of(settings)
    urls = {endpoint: base + path for endpoint, path in paths.items()}
    urls |= {page: f"{base.removesuffix('/v1')}/{page}" for page in BESIDE}
    return {endpoint: _url(url, settings) for endpoint, url in urls.items()}


def probe_of(settings: UpstreamSettings) -> Probe:
    url = _url(KINDS[settings.engine].health(base_of(settings)), settings)
    by_default = 0.0 if settings.is_cloud else PROBE
    return Probe(url, headers_of(settings), by_default if settings.probe is None else settings.probe)


def base_of(settings: UpstreamSettings) -> str:
    return str(settings.url).rstrip("/")


def _url(url: str, settings: UpstreamSettings) -> str:
    query = urlencode({name: value.get_secret_value() for name, value in settings.query.items()})
    return f"{url}?{query}" if query else url


def headers_of(settings: UpstreamSettings) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    if settings.key is not None:
        headers["Authorization"] = f"Bearer {settings.key.get_secret_value()}"
    return headers | {name: value.get_secret_value() for name, value in settings.headers.items()}


def secrets_of(settings: UpstreamSettings) -> list[bytes]:
    """Return the secrets of at least 8 characters; shorter ones may occur in an error message by chance."""
    given = [settings.key, *settings.headers.values(), *settings.query.values()]
    return [value.get_secret_value().encode() for value in given if value is not None and len(value) >= 8]
