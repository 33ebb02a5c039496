"""Checks that a local vLLM can start, before minutes of loading."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from gateway.local.model_catalog import CATALOG
from gateway.local.settings import LocalEngine
from policies.loading.yaml_files import ConfigError

from .arguments import environment_of, inherited, is_folder

PATIENCE = 30.0
"""Maximum seconds for the commands that query installed modules and the GPU's memory."""

LIGHTER = frozenset({"quantization", "cpu-offload-gb", "load-format", "tensor-parallel-size"})
"""Arguments with which the memory of the weights differs from the size of their files."""

FINDS = """
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
    python = _python(local)
    needed = ["vllm"]
    if local.speculative is not None:
        needed += {"suffix": ["arctic_inference"]}.get(local.speculative.method, [])
        _check_vocabulary(local.model, local.speculative.model, local.speculative.method)
    if missing := _missing(python, needed, local):
        raise ConfigError(f"local.python: {python} has no module {missing}")
    _check_memory(local)
    return python


def _python(local: LocalEngine) -> Path:
    named = local.python or os.environ.get("SMALLFIRST_VLLM")
    if named:
        return Path(named).expanduser()
    found = importlib.util.find_spec("vllm")
    if found is not None and found.origin:
        return Path(sys.executable)
    raise ConfigError(
        f"local.model: {local.model!r} is none of llama.cpp's ({', '.join(CATALOG)}, or a GGUF file), and vLLM is not"
        " installed here. vLLM runs models of Hugging Face on a GPU, many requests at a time, with speculative"
        " decoding and scoring. On a machine with an NVIDIA GPU: pip install 'smallfirst[vllm]'; or name the Python of"
        " an environment that has vLLM in local.python or SMALLFIRST_VLLM"
    )


def _missing(python: Path, modules: Iterable[str], local: LocalEngine) -> str:
    """Return the names of the modules that the environment lacks, separated by spaces."""
    environment = {**inherited(), **environment_of(local)}
    try:
        found = subprocess.run(
            [python, "-c", FINDS, *modules],
            env=environment, capture_output=True, text=True, timeout=PATIENCE, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"local.python: {python} can't be asked whether it has vLLM: {error}") from error
    return found.stdout.strip()


def _check_vocabulary(target: str, draft: str | None, method: str) -> None:
    """Check that both models have the same vocabulary. Raises ConfigError.

    vLLM compares only the sizes, after it has loaded both models. With different tokens of equal number,
    every draft would be wrong.
    """
    if method != "draft_model" or draft is None or not (is_folder(target) and is_folder(draft)):
        return
    sizes = [_read(folder, "config.json").get("vocab_size") for folder in (target, draft)]
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"local.speculative.model: {draft} has a vocabulary of {sizes[1]} tokens, and {target} one of {sizes[0]}"
        )
    tokens = [_read(folder, "tokenizer.json").get("model", {}).get("vocab") for folder in (target, draft)]
    if None not in tokens and tokens[0] != tokens[1]:
        raise ConfigError(
            f"local.speculative.model: {draft} and {target} have vocabularies of different tokens"
        )


def _read(folder: str, name: str) -> dict[str, Any]:
    path = Path(folder).expanduser() / name
    try:
        found = orjson.loads(path.read_bytes()) if path.is_file() else {}
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{path}: is not JSON: {error}") from error
    return found if isinstance(found, dict) else {}


def _check_memory(local: LocalEngine) -> None:
    """Check that the weights fit. Raises ConfigError.

    The check uses the total memory, not the free one, as other processes may exit before vLLM needs it.
    """
    if LIGHTER & {key.replace("_", "-") for key in local.arguments}:
        return
    models = [local.model, *([local.speculative.model] if local.speculative else [])]
    needed = sum(_weights(model) for model in models if model is not None and is_folder(model))
    where, there = _memory()
    if needed > there:
        raise ConfigError(
            f"local.model: the weights take {needed / 1e9:.1f} GB, and {where} has {there / 1e9:.1f} GB"
        )


def _weights(folder: str) -> int:
    """Return the bytes of a model's weights."""
    return sum(file.stat().st_size for file in Path(folder).expanduser().glob("*.safetensors"))


def _memory() -> tuple[str, int]:
    """Return the device that the weights must fit in and its memory in bytes: the largest GPU, else this
    machine."""
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
        return "the GPU", max(int(line) for line in told.split()) * 2**20
    except (OSError, ValueError, subprocess.SubprocessError):
        return "this machine", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
