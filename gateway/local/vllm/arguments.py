"""The settings of a local vLLM -> its command line and its environment."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from gateway.local.settings import LocalEngine
from policies.loading.yaml_files import ConfigError

MODULE = "vllm.entrypoints.openai.api_server"
"""What `vllm serve` runs. The command itself asks for a distribution named `vllm`; the CPU build has another name."""

OURS = {
    "model": "local.model",
    "served-model-name": "local.model",
    "max-model-len": "local.context",
    "max-num-seqs": "local.slots",
    "speculative-config": "local.speculative",
    "lora-modules": "local.adapters",
    "host": None,
    "port": None,
    "uds": None,
    "api-key": None,
    "root-path": None,
    "ssl-keyfile": None,
    "ssl-certfile": None,
}
"""Options that the gateway sets, and by which key."""


def is_folder(model: str) -> bool:
    """Whether a model lies here; else its name is Hugging Face's."""
    return (Path(model).expanduser() / "config.json").is_file()


def model_name(local: LocalEngine) -> str:
    """What requests, metrics and calibrators call the model."""
    return Path(local.model).name if is_folder(local.model) else local.model


def command_of(local: LocalEngine, port: int) -> list[str]:
    """Raises ConfigError for an argument that the gateway sets itself."""
    given = {key.replace("_", "-").removeprefix("--"): value for key, value in local.arguments.items()}
    for key in given.keys() & OURS.keys():
        instead = f"use {OURS[key]}" if OURS[key] else "the gateway sets it"
        raise ConfigError(f"local.arguments.{key}: {instead}")
    options = {
        "model": _here(local.model),
        "served-model-name": model_name(local),
        "host": "127.0.0.1",
        "port": port,
        "max-model-len": local.context,
        "max-num-seqs": local.at_once,
        "disable-uvicorn-access-log": True,
        **given,
    }
    if local.speculative is not None:
        options["speculative-config"] = local.speculative.model_dump(exclude_none=True)
    if local.adapters:
        options["enable-lora"] = True
        options["lora-modules"] = [f"{name}={_here(where)}" for name, where in local.adapters.items()]
    return [MODULE, *(word for key, value in options.items() for word in _option(key, value))]


def _here(model: str) -> str:
    """A folder's path, or a name at Hugging Face as it is."""
    path = Path(model).expanduser()
    return str(path) if path.is_dir() else model


def _option(key: str, value: Any) -> Iterator[str]:
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


def environment_of(local: LocalEngine) -> dict[str, str]:
    """Over that of the gateway: nothing is reported home, and where all models lie here, nothing is asked for."""
    models = [local.model, *([local.speculative.model] if local.speculative else [])]
    here = all(model is None or is_folder(model) for model in models)
    adapted = all(Path(where).expanduser().is_dir() for where in local.adapters.values())
    offline = {"HF_HUB_OFFLINE": "1"} if here and adapted else {}
    quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    # Python would look for modules in the folder that the gateway was started in.
    return {"PYTHONSAFEPATH": "1", **quiet, **offline, **local.environment}


def inherited(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the engine gets of the gateway's environment: all but providers' keys, which are no business of its."""
    return {name: value for name, value in environment.items() if not name.endswith("_API_KEY")}
