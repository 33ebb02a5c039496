"""Settings: smallfirst.yaml and environment variables.

Environment variables override the file, and the file overrides the defaults: `SMALLFIRST_LISTEN__PORT=9000`
overrides `listen.port`, and so on for every key. `${NAME}` in a string is the environment variable NAME; a
missing variable is an error.
"""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, HttpUrl, SecretStr, TypeAdapter, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from policies.loading.trained_files import read_trained
from policies.loading.yaml_files import ConfigError, KeyLines, read_yaml, to_config_error, to_places
from routers.confidence.calibration import Calibrator

from .api.settings import Listen
from .catalog.settings import PolicySettings
from .data_folder import data_folder as data_folder
from .local.llamacpp.arguments import resolve_paths
from .local.settings import ENGINE_OF_KEY, LOCAL_UPSTREAM_NAME, select_local_engine
from .local.settings import LocalEngine as LocalEngine
from .local.weights.reference import expand_home, names_path, parse_reference
from .state.settings import ResponseSettings
from .telemetry.settings import RecordSettings
from .upstreams.providers.env_providers import PROVIDERS, Provider
from .upstreams.settings import UpstreamSettings

PREFIX = "SMALLFIRST_"
OTHER_VARIABLES = (
    "SMALLFIRST_CONFIG",
    "SMALLFIRST_DATA",
    "SMALLFIRST_LLM_MODEL",
    "SMALLFIRST_VLLM",
    "SMALLFIRST_VLLM_MODELS",
    "SMALLFIRST_WEIGHTS",
)
"""Variables of the gateway that are no key of the settings."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=PREFIX, env_nested_delimiter="__", env_parse_none_str="null"
    )

    listen: Listen = Listen()
    """Where the gateway listens."""
    local: LocalEngine | None = LocalEngine()
    """The built-in engine as the small model. If the key is absent, it runs unless an upstream is the small
    model; null: it does not run."""
    upstreams: tuple[UpstreamSettings, ...] = ()
    """Endpoints elsewhere."""
    policies: PolicySettings = PolicySettings()
    """Policies of your own."""
    calibrators: dict[str, Path] = {}
    """Calibrators of your own: a file by the name of its small model. `calibrator: stock` then means that file,
    whatever else there is."""
    expose_models: bool = False
    """Whether a request may name an upstream's model, or a LoRA adapter, instead of a policy. It is then answered by
    that model alone, past all policies: their privacy, guards, ceilings and evaluators."""
    records: RecordSettings = RecordSettings()
    """What exchanges leave behind."""
    responses: ResponseSettings = ResponseSettings()
    """What the Responses API remembers."""
    models_folder: Path = Field(default_factory=lambda: data_folder() / "models")
    """The folder of model weights; by default `models` in the user's data folder, on Linux
    `~/.local/share/smallfirst`."""

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


def default_config_path() -> Path | None:
    """Return `SMALLFIRST_CONFIG` if set, else ./smallfirst.yaml if it exists, else None."""
    named = os.environ.get("SMALLFIRST_CONFIG")
    if named:
        return Path(named)
    here = Path("smallfirst.yaml")
    return here if here.exists() else None


def load_settings(path: Path | None = None, slm: str | None = None) -> Settings:
    """Load settings from a file and the environment. `slm` is a model that the local engine runs instead of
    the configured one. Raises ConfigError."""
    _check_environment()
    data: dict[str, Any] = {}
    lines: KeyLines = {}
    if path is not None:
        data, lines = read_yaml(path)
        data = {str(key): _expand_variables(value, (key,), path, lines) for key, value in data.items()}
        data = _resolve_paths(data, path.parent)
    if slm is not None:
        data = _add_model(data, slm)
    try:
        settings = Settings(**data)
    except SettingsError as error:
        raise ConfigError(f"environment: {error}: expected JSON") from error
    except ValidationError as error:
        raise _explain_error(error, path, lines) from error
    settings = _add_provider(_drop_spare_engine(settings))
    if slm is not None:
        settings = settings.model_copy(update={"local": select_local_engine(slm, settings.local)})
    _check_names(settings, path, lines)
    _check_calibrators(settings, path, lines)
    return settings


def _add_model(data: dict[str, Any], slm: str) -> dict[str, Any]:
    """Add the model to a section `local` without one, if the section's keys are for the engine of that model."""
    local = data.get("local")
    if not isinstance(local, dict) or "model" in local:
        return data
    engines = [kind for key, kind in ENGINE_OF_KEY.items() if key in local]
    if "engine" in local:
        engines.append(local["engine"])
    if not engines or engines.count(parse_reference(slm).engine) < len(engines):
        return data
    return data | {"local": local | {"model": slm}}


def _check_environment() -> None:
    """Reject unknown variables, since a mistyped one would otherwise be ignored silently."""
    sections = {f"{PREFIX}{key.upper()}" for key in Settings.model_fields}
    for name in os.environ:
        if name.startswith(PREFIX) and name.split("__")[0] not in {*sections, *OTHER_VARIABLES}:
            known = ", ".join([*sorted(sections), *OTHER_VARIABLES])
            raise ConfigError(f"environment: {name}: unknown variable; there are {known} (and __KEY within)")


def _explain_error(error: ValidationError, path: Path | None, lines: KeyLines) -> ConfigError:
    """Explain a validation error. An error from an environment variable names the variable and does not show
    its value, which may be secret."""
    for detail in error.errors():
        at = [str(part) for part in detail["loc"]]
        for depth in range(len(at), 0, -1):
            name = PREFIX + "__".join(at[:depth]).upper()
            if name in os.environ:
                what = "unknown key" if detail["type"] == "extra_forbidden" else detail["msg"]
                return ConfigError(": ".join(["environment", name, *at[depth:], what]))
    return to_config_error(error, to_places(path or Path("environment"), lines))


def _expand_variables(value: Any, at: tuple[str | int, ...], path: Path, lines: KeyLines) -> Any:
    if isinstance(value, dict):
        return {key: _expand_variables(item, (*at, key), path, lines) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand_variables(item, (*at, index), path, lines) for index, item in enumerate(value)]
    return _expand_text(value, at, path, lines) if isinstance(value, str) else value


def _expand_text(value: str, at: tuple[str | int, ...], path: Path, lines: KeyLines) -> str:
    where = f"{path}:{lines.get(at, 1)}: {'.'.join(map(str, at))}"

    def read_variable(match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            raise ConfigError(f"{where}: the environment variable {name} is not set")
        return os.environ[name]

    text = re.sub(r"\$\{(\w+)\}", read_variable, value)
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigError(f"{where}: holds a character that no path and no name can have")
    return text


def _resolve_paths(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Resolve relative paths against the folder of the settings file."""
    sections: list[tuple[Any, str]] = [
        (data, "models_folder"),
        (data.get("records"), "path"),
        (data.get("policies"), "folder"),
    ]
    if isinstance(calibrators := data.get("calibrators"), dict):
        sections += [(calibrators, model) for model in calibrators]
    for section, key in sections:
        if isinstance(section, dict) and isinstance(section.get(key), str):
            section[key] = str(folder / expand_home(section[key]))
    if isinstance(local := data.get("local"), dict):
        _resolve_model_paths(local, folder)
    return data


def _resolve_model_paths(local: dict[Any, Any], folder: Path) -> None:
    """Make paths of models and adapters absolute, since a path such as `mine` would be taken for a name later on."""
    places = [(local, "model"), (local.get("speculative"), "model")]
    adapters = local.get("adapters")
    places += [(adapters, name) for name in adapters] if isinstance(adapters, dict) else []
    for section, key in places:
        if isinstance(section, dict) and _is_model_path(section.get(key), folder):
            section[key] = str((folder / expand_home(section[key])).absolute())
    if isinstance(local.get("arguments"), dict):
        local["arguments"] = resolve_paths(local["arguments"], lambda path: str(folder / expand_home(path)))


def _is_model_path(model: Any, folder: Path) -> bool:
    """Whether a model is given by a path, to a GGUF file or a folder. Otherwise it is a name."""
    return isinstance(model, str) and names_path(model, folder)


def _drop_spare_engine(settings: Settings) -> Settings:
    """Drop the built-in engine if the user configured another small model and did not ask for the engine."""
    has_own_slm = any(upstream.tier == "slm" and not upstream.judges_only for upstream in settings.upstreams)
    if has_own_slm and "local" not in settings.model_fields_set:
        return settings.model_copy(update={"local": None})
    return settings


def _add_provider(settings: Settings) -> Settings:
    """Without an LLM upstream in the file, add the first provider whose key is set."""
    if any(upstream.tier == "llm" and not upstream.judges_only for upstream in settings.upstreams):
        return settings
    for provider in PROVIDERS:
        if key := os.environ.get(provider.key_variable):
            model = os.environ.get("SMALLFIRST_LLM_MODEL", provider.model)
            upstream = UpstreamSettings(
                name=provider.name,
                tier="llm",
                url=_provider_url(provider),
                model=model,
                engine=provider.engine,
                key=SecretStr(key),
            )
            return settings.model_copy(update={"upstreams": (*settings.upstreams, upstream)})
    return settings


def _provider_url(provider: Provider) -> HttpUrl:
    url = os.environ.get(provider.base_url_variable) or provider.url
    try:
        return TypeAdapter(HttpUrl).validate_python(url)
    except ValidationError as error:
        raise ConfigError(f"environment: {provider.base_url_variable}: {error.errors()[0]['msg']}") from error


def _check_local_name(
    local: LocalEngine, upstreams: Iterable[UpstreamSettings], error_at: Callable[..., ConfigError]
) -> None:
    """Raise ConfigError if the name that `local.name` gives is another model's. A small model elsewhere may be the
    same model, and then shares its requests."""
    for upstream in upstreams:
        if local.name is not None and local.name == upstream.model and upstream.tier != "slm":
            raise error_at(f"{local.name!r} is the model of the upstream {upstream.name}", "local", "name")
        if upstream.model in local.adapters:
            raise error_at(f"{upstream.model!r} is an upstream's model", "local", "adapters", upstream.model)


def _check_names(settings: Settings, path: Path | None, lines: KeyLines) -> None:
    def error_at(what: str, *at: str | int) -> ConfigError:
        return _build_error(what, at, path, lines)

    names = set() if settings.local is None else {LOCAL_UPSTREAM_NAME}
    models = {upstream.model for upstream in settings.upstreams}
    if settings.local is not None:
        models.add(settings.local.model_name)
        _check_local_name(settings.local, settings.upstreams, error_at)
    for index, upstream in enumerate(settings.upstreams):
        if upstream.name in names:
            what = f"another upstream is named {upstream.name!r}; each needs a name of its own"
            raise error_at(what, "upstreams", index, "name")
        names.add(upstream.name)
        for adapter in upstream.adapters:
            if adapter in models:
                raise error_at(f"{adapter!r} is an upstream's model", "upstreams", index, "adapters")
    if settings.local is None and not settings.upstreams:
        raise error_at("neither a local engine nor an upstream is configured", "upstreams")


def _check_calibrators(settings: Settings, path: Path | None, lines: KeyLines) -> None:
    for model, file in settings.calibrators.items():
        try:
            calibrator = read_trained(Calibrator, file)
        except OSError as error:
            what = f"{file}: {error.strerror}; expected a calibrator's file"
            raise _build_error(what, ("calibrators", model), path, lines) from error
        if calibrator.made_for.mode != "free":
            what = f"{file}: is made for {calibrator.made_for.mode} decoding; expected one for free decoding"
            raise _build_error(what, ("calibrators", model), path, lines)


def _build_error(what: str, at: tuple[str | int, ...], path: Path | None, lines: KeyLines) -> ConfigError:
    """Return an error that names the file, the line and the key."""
    where = f"{path}:{lines.get(at, lines.get(at[:1], 1))}" if path else "settings"
    return ConfigError(f"{where}: {'.'.join(map(str, at))}: {what}")
