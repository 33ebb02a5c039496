"""Builds the command line and the environment of a local vLLM from its settings."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from gateway.local.settings import LocalEngine
from policies.loading.yaml_files import ConfigError

from .tool_parsers import choose_tool_parser

SERVER_MODULE = "vllm.entrypoints.openai.api_server"
"""The module that `vllm serve` runs. The command requires a distribution named `vllm`, which the CPU build is
not."""

RESERVED_OPTIONS = {
    "model": "local.model",
    "served-model-name": "local.name",
    "max-model-len": "local.context",
    "max-num-seqs": "local.slots",
    "speculative-config": "local.speculative",
    "lora-modules": "local.adapters",
    "enable-auto-tool-choice": "local.tool_parser",
    "tool-call-parser": "local.tool_parser",
    "reasoning-parser": "local.reasoning_parser",
    "host": None,
    "port": None,
    "uds": None,
    "api-key": None,
    "root-path": None,
    "ssl-keyfile": None,
    "ssl-certfile": None,
}
"""Options that the gateway sets, each with the key that decides its value."""


def is_model_folder(model: str) -> bool:
    """Return whether a model is a local folder; otherwise it is a name on Hugging Face."""
    return (Path(model).expanduser() / "config.json").is_file()


def build_command(local: LocalEngine, port: int, weights: Path | None = None) -> list[str]:
    """Return the module and its arguments. `weights` is the model's folder, if it has been found on this machine.
    Raises ConfigError for an argument that the gateway sets itself."""
    arguments = {key.replace("_", "-").removeprefix("--"): value for key, value in local.arguments.items()}
    for key in arguments.keys() & RESERVED_OPTIONS.keys():
        instead = f"use {RESERVED_OPTIONS[key]}" if RESERVED_OPTIONS[key] else "the gateway sets it"
        raise ConfigError(f"local.arguments.{key}: {instead}")
    options = {
        "model": _resolve_model(local.model) if weights is None else str(weights),
        "served-model-name": local.model_name,
        "host": "127.0.0.1",
        "port": port,
        "max-model-len": local.context,
        "max-num-seqs": local.max_in_flight,
        "disable-uvicorn-access-log": True,
        **_build_parser_options(local),
        **arguments,
    }
    if local.speculative is not None:
        options["speculative-config"] = local.speculative.model_dump(exclude_none=True)
    if local.adapters:
        options["enable-lora"] = True
        options["lora-modules"] = [
            f"{name}={_resolve_model(where)}" for name, where in local.adapters.items()
        ]
    return [SERVER_MODULE, *(word for key, value in options.items() for word in _format_option(key, value))]


def _build_parser_options(local: LocalEngine) -> dict[str, Any]:
    tool_parser = choose_tool_parser(local)
    tools = {"enable-auto-tool-choice": True, "tool-call-parser": tool_parser} if tool_parser else {}
    return tools | ({"reasoning-parser": local.reasoning_parser} if local.reasoning_parser else {})


def _resolve_model(model: str) -> str:
    """Return the path of a local folder, or a name on Hugging Face unchanged."""
    path = Path(model).expanduser()
    return str(path) if path.is_dir() else model


def _format_option(key: str, value: Any) -> Iterator[str]:
    match value:
        case True:
            yield f"--{key}"
        case False:
            yield f"--no-{key}"
        case dict():
            yield from (f"--{key}", orjson.dumps(value).decode())
        case list():
            yield from (f"--{key}", *map(str, value))
        case None:
            pass
        case _:
            yield from (f"--{key}", str(value))


def build_environment(local: LocalEngine) -> dict[str, str]:
    """Return the variables that override the gateway's: no usage reports, and offline if all models are
    local."""
    models = [local.model, *([local.speculative.model] if local.speculative else [])]
    are_models_local = all(model is None or is_model_folder(model) for model in models)
    are_adapters_local = all(Path(where).expanduser().is_dir() for where in local.adapters.values())
    offline = {"HF_HUB_OFFLINE": "1"} if are_models_local and are_adapters_local else {}
    quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    # Without it, Python would also import modules from the working directory of the gateway.
    return {"PYTHONSAFEPATH": "1", **quiet, **offline, **local.environment}
