"""Chooses the context, slots and threads of a local engine that are not configured, by the model and the machine."""

import os
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from gateway.local.models.config_geometry import read_config_geometry
from gateway.local.models.geometry import Geometry
from gateway.local.models.gguf_geometry import read_gguf_geometry
from gateway.local.models.memory import (
    KV_BYTES,
    MemoryEstimate,
    estimate_memory,
    format_bytes,
    kv_bytes_per_token,
)
from gateway.local.settings import LocalEngine
from policies.loading.yaml_files import ConfigError

from .machine import Machine, read_machine

MAX_CHOSEN_CONTEXT = 8192
"""Tokens of a request for which llama.cpp makes room if `context` is absent: a chat of tens of turns, or an agent's
instructions with its tools."""
MIN_CHOSEN_CONTEXT = 2048
CONTEXT_STEP = 256
"""Tokens of which a context that the memory limits is a multiple."""
MAX_CHOSEN_SLOTS = 4
MEMORY_SHARE = 0.5
"""Share of the machine's memory that chosen values may fill, weights included."""
VLLM_GPU_SHARE = 0.9
"""Share of a GPU's memory that vLLM takes if `gpu-memory-utilization` is absent."""
VLLM_OVERHEAD_BYTES = 1 << 30
"""Bytes that vLLM is assumed to need besides the weights and the cache."""
MEMORY_SAVING_ARGUMENTS = frozenset({"quantization", "cpu-offload-gb", "load-format", "tensor-parallel-size"})
"""vLLM's arguments with which the memory of the weights differs from the size of their files."""


class Model(NamedTuple):
    """What is known of a model that decides its memory."""

    name: str
    weights_bytes: int
    geometry: Geometry | None = None
    """None if it is not known."""
    context: int | None = None
    """Tokens that it was trained for, if they are known without its geometry."""

    @property
    def trained_context(self) -> int | None:
        return self.context if self.geometry is None else self.geometry.context


class Sizing(NamedTuple):
    """An engine's settings with nothing left to choose, and a sentence that says what was chosen and why."""

    local: LocalEngine
    sentence: str
    kv_cache_bytes: int
    """Bytes of llama.cpp's key-value cache; 0 if they are not known."""


def size_engine(local: LocalEngine, path: Path) -> Sizing:
    """Choose what the settings leave open, for the model at `path`: a GGUF file, or a folder with a `config.json`.

    Raises ConfigError if the model cannot have the context that is configured, or does not fit into memory.
    """
    return choose_sizes(local, read_model(local.model, path), read_machine(local.engine))


def read_model(name: str, path: Path) -> Model:
    """Return a model's size and geometry. The engine itself says what is wrong with files that cannot be read."""
    files = list(path.glob("*.safetensors")) if path.is_dir() else [path]
    try:
        geometry = read_config_geometry(path) if path.is_dir() else read_gguf_geometry(path)
    except (OSError, ValueError):
        geometry = None
    return Model(name, sum(file.stat().st_size for file in files if file.is_file()), geometry)


def choose_sizes(local: LocalEngine, model: Model, machine: Machine) -> Sizing:
    """Choose what the settings leave open. Raises ConfigError as `size_engine`."""
    check_context(local, model)
    choose = _choose_for_vllm if local.engine == "vllm" else _choose_for_llamacpp
    sized = choose(local, model, machine)
    check_memory(sized, model, machine)
    cache = (
        0 if sized.context is None else _estimate(sized, model, sized.context, sized.max_in_flight).kv_cache
    )
    return Sizing(sized, _describe(local, sized, model, machine), cache)


def check_context(local: LocalEngine, model: Model) -> None:
    """Check that the model was trained for the configured context. Raises ConfigError."""
    trained = model.trained_context
    if not local.context or not trained or local.context <= trained:
        return
    if any("rope" in name or name == "hf-overrides" for name in _normalise(local.arguments)):
        return
    raise ConfigError(
        f"local.context: {local.context} tokens, and {model.name} was trained for {trained}; set it to {trained} or"
        " less, or scale the positions by RoPE arguments under local.arguments"
    )


def check_memory(local: LocalEngine, model: Model, machine: Machine) -> None:
    """Check that an engine with these settings fits into memory. Raises ConfigError with the numbers.

    The check uses the total memory, not the free one, as other processes may exit before the engine needs it.
    """
    if MEMORY_SAVING_ARGUMENTS & _normalise(local.arguments).keys():
        return
    if local.engine == "vllm" or model.geometry is None or local.context is None:
        if model.weights_bytes > machine.memory_bytes:
            raise ConfigError(
                f"local.model: the weights take {model.weights_bytes / 1e9:.1f} GB, and {machine.name} has"
                f" {machine.memory_bytes / 1e9:.1f} GB"
            )
        return
    estimate = _estimate(local, model, local.context, local.max_in_flight)
    if estimate.total > machine.memory_bytes:
        raise ConfigError(
            f"local: {model.name} needs {format_bytes(estimate.total)}, and {machine.name} has"
            f" {format_bytes(machine.memory_bytes)}: weights {format_bytes(estimate.weights)}, the KV cache of"
            f" {_count_slots(local)} of {local.context} tokens {format_bytes(estimate.kv_cache)}, activations"
            f" {format_bytes(estimate.activations)}; lower local.context or local.slots, or take a smaller model"
        )


def _choose_for_llamacpp(local: LocalEngine, model: Model, machine: Machine) -> LocalEngine:
    threads = local.threads or max(1, machine.cores // 2)
    context, slots = next(
        (
            choice
            for choice in _list_choices(local, model, machine)
            if _estimate(local, model, *choice).total <= machine.memory_bytes * MEMORY_SHARE
        ),
        (local.context or _limit_context(model, MIN_CHOSEN_CONTEXT), local.slots or 1),
    )
    return local.model_copy(update={"context": context, "slots": slots, "threads": threads})


def _list_choices(local: LocalEngine, model: Model, machine: Machine) -> Iterator[tuple[int, int]]:
    """Yield contexts with slots, the best first: rather two slots than half of the context."""
    most = _limit_context(model, MAX_CHOSEN_CONTEXT)
    smaller = [most >> halvings for halvings in (1, 2) if most >> halvings >= MIN_CHOSEN_CONTEXT]
    contexts = [local.context] if local.context else [most, *smaller]
    cores = min(MAX_CHOSEN_SLOTS, max(2, machine.cores))
    slots = [local.slots] if local.slots else range(cores, 1, -1)
    yield from product(contexts, slots)


def _limit_context(model: Model, context: int) -> int:
    return min(model.trained_context or MIN_CHOSEN_CONTEXT, context)


def _estimate(local: LocalEngine, model: Model, context: int, slots: int) -> MemoryEstimate:
    if model.geometry is None:
        return MemoryEstimate(model.weights_bytes, 0, 0)
    return estimate_memory(model.geometry, model.weights_bytes, context, slots, read_kv_bytes(local))


def read_kv_bytes(local: LocalEngine) -> float:
    """Return the bytes of one number in the engine's key-value cache, by its arguments."""
    arguments = _normalise(local.arguments)
    if local.engine == "vllm":
        is_single = str(arguments.get("dtype")) in ("float", "float32")
        is_eight = str(arguments.get("kv-cache-dtype", "")).startswith("fp8")
        return KV_BYTES["fp8" if is_eight else "f32" if is_single else "f16"]
    types = (str(arguments.get(f"cache-type-{side}", "f16")) for side in "kv")
    return sum(KV_BYTES.get(kind, KV_BYTES["f16"]) for kind in types) / 2


def _choose_for_vllm(local: LocalEngine, model: Model, machine: Machine) -> LocalEngine:
    """Choose the model's own context, or what one request can have of the cache if that is less."""
    if local.context or not model.trained_context:
        return local
    if model.geometry is None:
        return local.model_copy(update={"context": model.trained_context})
    token_bytes = max(kv_bytes_per_token(model.geometry, read_kv_bytes(local)), 1.0)
    fitting = int(_count_cache_bytes(local, model, machine) / token_bytes) // CONTEXT_STEP * CONTEXT_STEP
    context = min(model.trained_context, max(fitting, MIN_CHOSEN_CONTEXT))
    return local.model_copy(update={"context": context})


def _count_cache_bytes(local: LocalEngine, model: Model, machine: Machine) -> float:
    """Return the bytes that vLLM has for its key-value cache."""
    configured = {**os.environ, **local.environment}.get("VLLM_CPU_KVCACHE_SPACE", "")
    if configured.isdecimal() and not machine.is_gpu:
        return int(configured) * 2.0**30
    share = _normalise(local.arguments).get("gpu-memory-utilization")
    if not isinstance(share, int | float):
        share = VLLM_GPU_SHARE if machine.is_gpu else MEMORY_SHARE
    return max(machine.memory_bytes * share - model.weights_bytes - VLLM_OVERHEAD_BYTES, 0.0)


def _normalise(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "-").removeprefix("--"): value for name, value in arguments.items()}


def _describe(local: LocalEngine, sized: LocalEngine, model: Model, machine: Machine) -> str:
    """Return what was chosen, and why."""
    if sized.context is None:
        return "context: the model's own, as vLLM reads it"
    given = [key for key in ("context", "slots", "threads") if getattr(local, key)]
    each = "" if sized.max_in_flight == 1 else "each of "
    parts = [f"{sized.context} tokens of context for {each}{_count_slots(sized)}"]
    if sized.threads:
        parts.append("1 thread" if sized.threads == 1 else f"{sized.threads} threads")
    reasons = [f"{', '.join(given)} as configured"] if given else []
    if model.trained_context:
        reasons.append(f"trained for {model.trained_context} tokens")
    if model.geometry and sized.engine == "llamacpp":
        total = _estimate(sized, model, sized.context, sized.max_in_flight).total
        reasons.append(f"needs {format_bytes(total)} of {format_bytes(machine.memory_bytes)}")
    reasons.append("1 core" if machine.cores == 1 else f"{machine.cores} cores")
    return f"{', '.join(parts)} ({'; '.join(reasons)})"


def _count_slots(local: LocalEngine) -> str:
    return "1 slot" if local.max_in_flight == 1 else f"{local.max_in_flight} slots"
