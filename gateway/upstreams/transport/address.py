"""URLs, headers and secrets of the requests to an upstream."""

from typing import NamedTuple
from urllib.parse import urlencode

from gateway.upstreams.providers.registry import SERVER_KINDS
from gateway.upstreams.settings import UpstreamSettings

PROBE_INTERVAL_S = 10.0
"""Default seconds between probes of a server that is no cloud."""


ROOT_PAGES = ("tokenize", "detokenize", "apply-template", "completion", "embedding")
"""Pages of vLLM's and llama.cpp's servers beside `/v1`."""


class Probe(NamedTuple):
    """A free GET that shows whether a server is alive. `interval_s` is the seconds between probes, 0 for
    never."""

    url: str
    headers: dict[str, str]
    interval_s: float


def build_urls(settings: UpstreamSettings) -> dict[str, str]:
    """Return the URLs of `chat`, `completions`, `embeddings` and `models`, and of the pages beside `/v1`."""
    paths = {
        "chat": settings.chat_path,
        "completions": settings.completions_path,
        "embeddings": settings.embeddings_path,
        "models": "/models",
    }
    base = build_base_url(settings)
    urls = {endpoint: base + path for endpoint, path in paths.items()}
    urls |= {page: f"{base.removesuffix('/v1')}/{page}" for page in ROOT_PAGES}
    return {endpoint: _add_query(url, settings) for endpoint, url in urls.items()}


def build_probe(settings: UpstreamSettings) -> Probe:
    url = _add_query(SERVER_KINDS[settings.engine].health_url(build_base_url(settings)), settings)
    default_interval_s = 0.0 if settings.is_cloud else PROBE_INTERVAL_S
    return Probe(
        url, build_headers(settings), default_interval_s if settings.probe is None else settings.probe
    )


def build_base_url(settings: UpstreamSettings) -> str:
    return str(settings.url).rstrip("/")


def _add_query(url: str, settings: UpstreamSettings) -> str:
    query = urlencode({name: value.get_secret_value() for name, value in settings.query.items()})
    return f"{url}?{query}" if query else url


def build_headers(settings: UpstreamSettings) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    if settings.key is not None:
        headers["Authorization"] = f"Bearer {settings.key.get_secret_value()}"
    return headers | {name: value.get_secret_value() for name, value in settings.headers.items()}


def collect_secrets(settings: UpstreamSettings) -> list[bytes]:
    """Return the secrets of at least 8 characters; shorter ones may occur in an error message by chance."""
    values = [settings.key, *settings.headers.values(), *settings.query.values()]
    return [value.get_secret_value().encode() for value in values if value is not None and len(value) >= 8]
