"""Checks that a local vLLM can start, before minutes of loading."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from gateway.local.settings import LocalEngine
from gateway.local.weights.catalog import find_gguf_reference
from gateway.local.weights.space import check_memory
from policies.loading.yaml_files import ConfigError

from .arguments import build_environment, inherit_environment, is_model_folder

COMMAND_TIMEOUT_S = 30.0
"""Maximum seconds for the commands that query installed modules and the GPU's memory."""

FIND_MODULES_SCRIPT = """
import sys
from importlib.util import find_spec
print(*(name for name in sys.argv[1:] if not (found := find_spec(name)) or not found.origin))
"""
"""Prints which of the named modules are missing, without importing any. A folder without `__init__.py` has no
origin and counts as missing."""


def check_vllm(local: LocalEngine) -> Path:
    """Return the Python that has vLLM. Raises ConfigError for anything that would certainly prevent its
    start."""
    if sys.platform != "linux":
        raise ConfigError(
            "local.engine: vLLM is run on Linux only; elsewhere name one by URL under upstreams"
        )
    python = find_python(local)
    modules = ["vllm"]
    if local.speculative is not None:
        modules += {"suffix": ["arctic_inference"]}.get(local.speculative.method, [])
        _check_vocabulary(local.model, local.speculative.model, local.speculative.method)
    if missing_modules := _find_missing_modules(python, modules, local):
        raise ConfigError(f"local.python: {python} has no module {missing_modules}")
    _check_memory(local)
    return python


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
    name = find_gguf_reference(model)
    return f". llama.cpp runs it here: smallfirst serve --slm {name}" if name else ""


def _find_missing_modules(python: Path, modules: Iterable[str], local: LocalEngine) -> str:
    """Return the names of the modules that the environment lacks, separated by spaces."""
    environment = {**inherit_environment(), **build_environment(local)}
    try:
        result = subprocess.run(
            [python, "-c", FIND_MODULES_SCRIPT, *modules],
            env=environment, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"local.python: {python} can't be asked whether it has vLLM: {error}") from error
    return result.stdout.strip()


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
    """Check that the weights fit into memory, as far as they are here. Raises ConfigError."""
    models = [local.model, *([local.speculative.model] if local.speculative else [])]
    folders = [model for model in models if model is not None and is_model_folder(model)]
    check_memory("local.model", sum(map(_sum_weights_bytes, folders)), local)


def _sum_weights_bytes(folder: str) -> int:
    """Return the bytes of a model's weights."""
    return sum(file.stat().st_size for file in Path(folder).expanduser().glob("*.safetensors"))
