"""smallfirst.yaml and the environment -> Settings.

The file wins over nothing but the defaults: `SMALLFIRST_LISTEN__PORT=9000` overrides `listen.port`, and so on
for every key. `${NAME}` in a string is the environment variable NAME; a missing one is an error.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, TypeAdapter, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from policies.loader import ConfigError, Lines, explain, read_yaml
from routers.cost import Price
from routers.plan import Tier

from .upstreams.providers import PROVIDERS

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Listen(Strict):
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    body_limit: Count = 20_000_000
    """Largest request body, in bytes."""


class Limits(Strict):
    """Time limits in seconds, and how many calls an upstream gets at once."""

    connect: Seconds = 5.0
    first_token: Seconds = 120.0
    """Until a stream's response begins."""
    gap: Seconds = 60.0
    """Between two reads of a response."""
    whole: Seconds = 600.0
    """Until a plain response begins, which is when it is written."""
    in_flight: Count = 256
    queued: Annotated[int, Field(ge=0)] = 256
    retries: Annotated[int, Field(ge=0, le=10)] = 2


class LocalEngine(Strict):
    """An SLM run here, as a supervised child process."""

    engine: Literal["llamacpp"] = "llamacpp"
    model: str = "smollm2-135m-instruct"
    """A name `smallfirst models list` shows, or a path to a GGUF file."""
    context: Count = 2048
    """Tokens of one request, prompt and answer."""
    slots: Count = 4
    """Requests served at a time."""
    threads: Count | None = None
    """Compute threads; by default half of the cores."""
    queued: Annotated[int, Field(ge=0)] = 64
    """Requests that may wait for a slot; further ones are told to come back."""
    embeddings: bool = False
    price: Price = Price()


class UpstreamSettings(Strict):
    """One OpenAI-compatible endpoint with one model."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    tier: Tier
    url: HttpUrl
    model: str
    engine: Literal["openai", "llamacpp", "vllm"] = "openai"
    """The kind of server, for its quirks."""
    key: SecretStr | None = None
    headers: dict[str, SecretStr] = {}
    query: dict[str, SecretStr] = {}
    chat_path: str = "/chat/completions"
    completions_path: str = "/completions"
    embeddings_path: str = "/embeddings"
    embeddings: bool = True
    logprobs: bool = True
    price: Price | None = None
    """Where absent, genai-prices is asked; where that knows nothing, calls count as 0 and say so."""
    limits: Limits = Limits()


class Records(Strict):
    """What exchanges leave behind for tuning."""

    path: Path | None = None
    """A folder; no records are kept where absent."""
    content: bool = False
    """Whether prompts and answers are recorded too."""
    queue: Count = 10_000


class PolicySettings(Strict):
    folder: Path | None = None


def data_folder() -> Path:
    return Path(platformdirs.user_data_dir("smallfirst"))


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="SMALLFIRST_", env_nested_delimiter="__"
    )

    listen: Listen = Listen()
    local: LocalEngine | None = LocalEngine()
    upstreams: tuple[UpstreamSettings, ...] = ()
    policies: PolicySettings = PolicySettings()
    records: Records = Records()
    models_folder: Path = Field(default_factory=lambda: data_folder() / "models")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


def default_path() -> Path | None:
    """`SMALLFIRST_CONFIG`, else ./smallfirst.yaml where there is one."""
    named = os.environ.get("SMALLFIRST_CONFIG")
    if named:
        return Path(named)
    here = Path("smallfirst.yaml")
    return here if here.exists() else None


def load_settings(path: Path | None = None) -> Settings:
    """Settings from a file and the environment. Raises ConfigError."""
    data: dict[str, Any] = {}
    lines: Lines = {}
    if path is not None:
        data, lines = read_yaml(path)
        data = {key: _expanded(value, (key,), path, lines) for key, value in data.items()}
        data = _beside(data, path.parent)
    try:
        settings = Settings(**data)
    except ValidationError as error:
        raise explain(error, path or Path("environment"), lines) from error
    settings = _with_provider(settings)
    _check_names(settings, path)
    return settings


def _expanded(value: Any, at: tuple[str | int, ...], path: Path, lines: Lines) -> Any:
    if isinstance(value, dict):
        return {key: _expanded(item, (*at, key), path, lines) for key, item in value.items()}
    if isinstance(value, list):
        return [_expanded(item, (*at, index), path, lines) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            where = f"{path}:{lines.get(at, 1)}: {'.'.join(map(str, at))}"
            raise ConfigError(f"{where}: the environment variable {name} is not set")
        return os.environ[name]

    return re.sub(r"\$\{(\w+)\}", variable, value)


def _beside(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Relative paths are meant from the file they stand in."""
    for section, key in (("records", "path"), ("policies", "folder")):
        inner = data.get(section)
        if isinstance(inner, dict) and isinstance(inner.get(key), str):
            inner[key] = str(folder / inner[key])
    return data


def _with_provider(settings: Settings) -> Settings:
    """Without an LLM upstream in the file, the first provider whose key is set becomes one."""
    if any(upstream.tier == "llm" for upstream in settings.upstreams):
        return settings
    for provider in PROVIDERS:
        if key := os.environ.get(provider.key):
            model = os.environ.get("SMALLFIRST_LLM_MODEL", provider.model)
            url = (
                os.environ.get("OPENAI_BASE_URL", provider.url) if provider.name == "openai" else provider.url
            )
            found = UpstreamSettings(
                name=provider.name,
                tier="llm",
                url=TypeAdapter(HttpUrl).validate_python(url),
                model=model,
                key=SecretStr(key),
            )
            return settings.model_copy(update={"upstreams": (*settings.upstreams, found)})
    return settings


def _check_names(settings: Settings, path: Path | None) -> None:
    where = path or "settings"
    names = [upstream.name for upstream in settings.upstreams]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{where}: upstreams: two are named {name!r}; each needs a name of its own")
    for tier in ("slm", "llm"):
        count = sum(upstream.tier == tier for upstream in settings.upstreams)
        count += tier == "slm" and settings.local is not None
        if count > 1:
            hint = " (set `local: null` to use another than the built-in engine)" if tier == "slm" else ""
            raise ConfigError(
                f"{where}: upstreams: {count} upstreams of tier {tier}, expected at most one{hint}"
            )
    if settings.local is None and not settings.upstreams:
        raise ConfigError(f"{where}: upstreams: neither a local engine nor an upstream is configured")
