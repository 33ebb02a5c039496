"""Checks that a local vLLM can start, before minutes of loading."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from gateway.local.models.catalog import find_gguf_name
from gateway.local.settings import LocalEngine
from gateway.local.sizing.fit import Model, check_memory
from gateway.local.sizing.machine import read_machine
from gateway.local.supervision.child_process import inherit_environment
from policies.loading.yaml_files import ConfigError

from .arguments import build_environment, is_model_folder
from .model_folders import check_paths
from .parser_registry import read_reasoning_parsers, read_tool_parsers
from .tool_parsers import choose_tool_parser

COMMAND_TIMEOUT_S = 30.0
"""Maximum seconds for the commands that query installed modules and the GPU's memory."""

FIND_MODULES_SCRIPT = """
import json, sys
from importlib.util import find_spec
found = {name: find_spec(name) for name in sys.argv[1:]}
print(json.dumps({name: spec and spec.origin for name, spec in found.items()}))
"""
"""Prints the files of the named modules as JSON, without importing any. A module that is missing has none, nor has a
folder without `__init__.py`."""


def check_vllm(local: LocalEngine) -> Path:
    """Return the Python that has vLLM. Raises ConfigError for anything that would certainly prevent its
    start."""
    if sys.platform != "linux":
        raise ConfigError(
            "local.engine: vLLM is run on Linux only; elsewhere name one by URL under upstreams"
        )
    check_paths(local)
    python = find_python(local)
    modules = ["vllm"]
    if local.speculative is not None:
        modules += {"suffix": ["arctic_inference"]}.get(local.speculative.method, [])
        _check_vocabulary(local.model, local.speculative.model, local.speculative.method)
    files = _find_modules(python, modules, local)
    if missing := [name for name, file in files.items() if not file]:
        raise ConfigError(f"local.python: {python} has no module {' '.join(missing)}")
    _check_parsers(local, Path(files["vllm"]).parent)
    _check_memory(local)
    return python


def _check_parsers(local: LocalEngine, vllm_folder: Path) -> None:
    """Check that this vLLM has the parsers, unless a plug-in may add them. Raises ConfigError."""
    arguments = {key.replace("_", "-").removeprefix("--") for key in local.arguments}
    parsers = (
        ("tool_parser", choose_tool_parser(local), "tool-parser-plugin", read_tool_parsers),
        ("reasoning_parser", local.reasoning_parser, "reasoning-parser-plugin", read_reasoning_parsers),
    )
    for key, parser, plugin, read_names in parsers:
        if parser is None or plugin in arguments:
            continue
        known = read_names(vllm_folder)
        if known and parser not in known:
            raise ConfigError(
                f"local.{key}: this vLLM has no parser {parser!r}; it has: {', '.join(sorted(known))}"
            )


def find_python(local: LocalEngine) -> Path:
    configured = local.python or os.environ.get("SMALLFIRST_VLLM")
    if configured:
        return Path(configured).expanduser()
    spec = importlib.util.find_spec("vllm")
    if spec is not None and spec.origin:
        return Path(sys.executable)
    raise ConfigError(
        f"local.model: {local.model!r} has no GGUF weights for llama.cpp that are known (`smallfirst models list` shows"
        " those), and vLLM is not installed here. vLLM runs models of Hugging Face on a GPU, many requests at a time,"
        " with speculative decoding and scoring. On a machine with an NVIDIA GPU: pip install 'smallfirst[vllm]'; or"
        " name the Python of an environment that has vLLM in local.python or"
        f" SMALLFIRST_VLLM{_suggest_gguf(local.model)}"
    )


def _suggest_gguf(model: str) -> str:
    """Return how llama.cpp runs the model, if the catalog knows."""
    name = find_gguf_name(model)
    return f". llama.cpp runs it here: smallfirst serve --slm {name}" if name else ""


def _find_modules(python: Path, modules: Iterable[str], local: LocalEngine) -> dict[str, str]:
    """Return the modules' files; an empty text for a module that the environment lacks."""
    environment = {**inherit_environment(), **build_environment(local)}
    try:
        result = subprocess.run(
            [python, "-c", FIND_MODULES_SCRIPT, *modules],
            env=environment, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True,
        )  # fmt: skip
        files = orjson.loads(result.stdout)
    except (OSError, subprocess.SubprocessError, orjson.JSONDecodeError) as error:
        raise ConfigError(f"local.python: {python} can't be asked whether it has vLLM: {error}") from error
    return {name: file or "" for name, file in files.items()}


def _check_vocabulary(target: str, draft: str | None, method: str) -> None:
    """Check that both models have the same vocabulary. Raises ConfigError.

    vLLM compares only the sizes, after it has loaded both models. With different tokens of equal number,
    every draft would be wrong.
    """
    if method != "draft_model" or draft is None or not (is_model_folder(target) and is_model_folder(draft)):
        return
    sizes = [_read_json(folder, "config.json").get("vocab_size") for folder in (target, draft)]
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"local.speculative.model: {draft} has a vocabulary of {sizes[1]} tokens, and {target} one of {sizes[0]}"
        )
    tokens = [
        _read_json(folder, "tokenizer.json").get("model", {}).get("vocab") for folder in (target, draft)
    ]
    if None not in tokens and tokens[0] != tokens[1]:
        raise ConfigError(
            f"local.speculative.model: {draft} and {target} have vocabularies of different tokens"
        )


def _read_json(folder: str, name: str) -> dict[str, Any]:
    path = Path(folder).expanduser() / name
    try:
        content = orjson.loads(path.read_bytes()) if path.is_file() else {}
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{path}: is not JSON: {error}") from error
    return content if isinstance(content, dict) else {}


def _check_memory(local: LocalEngine) -> None:
    """Check that the weights fit, those of a draft model included. Raises ConfigError."""
    models = [local.model, *([local.speculative.model] if local.speculative else [])]
    weights_bytes = sum(
        _sum_weights_bytes(model) for model in models if model is not None and is_model_folder(model)
    )
    check_memory(local, Model(local.model, weights_bytes), read_machine(local.engine))


def _sum_weights_bytes(folder: str) -> int:
    """Return the bytes of a model's weights."""
    return sum(file.stat().st_size for file in Path(folder).expanduser().glob("*.safetensors"))
