"""Chooses the context, slots and threads of a local engine that are not configured, by the model and the machine."""

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

from gateway.local.models.config_geometry import read_config_geometry
from gateway.local.models.gguf import list_parts
from gateway.local.models.gguf_geometry import read_gguf_geometry
from gateway.local.models.memory import (
    format_bytes,
    kv_bytes_per_token,
)
from gateway.local.settings import LocalEngine

from .fit import (
    Model,
    check_context,
    check_memory,
    count_slots,
    estimate_model,
    normalise_names,
    read_kv_bytes,
)
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
    files = list(path.glob("*.safetensors")) if path.is_dir() else list_parts(path)
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
        0
        if sized.context is None
        else estimate_model(sized, model, sized.context, sized.max_in_flight).kv_cache
    )
    return Sizing(sized, _describe(local, sized, model, machine), cache)


def _choose_for_llamacpp(local: LocalEngine, model: Model, machine: Machine) -> LocalEngine:
    threads = local.threads or max(1, machine.cores // 2)
    context, slots = next(
        (
            choice
            for choice in _list_choices(local, model, machine)
            if estimate_model(local, model, *choice).total <= machine.memory_bytes * MEMORY_SHARE
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
    share = normalise_names(local.arguments).get("gpu-memory-utilization")
    if not isinstance(share, int | float):
        share = VLLM_GPU_SHARE if machine.is_gpu else MEMORY_SHARE
    return max(machine.memory_bytes * share - model.weights_bytes - VLLM_OVERHEAD_BYTES, 0.0)


def _describe(local: LocalEngine, sized: LocalEngine, model: Model, machine: Machine) -> str:
    """Return what was chosen, and why."""
    if sized.context is None:
        return "context: the model's own, as vLLM reads it"
    given = [key for key in ("context", "slots", "threads") if getattr(local, key)]
    each = "" if sized.max_in_flight == 1 else "each of "
    parts = [f"{sized.context} tokens of context for {each}{count_slots(sized)}"]
    if sized.threads:
        parts.append("1 thread" if sized.threads == 1 else f"{sized.threads} threads")
    reasons = [f"{', '.join(given)} as configured"] if given else []
    if model.trained_context:
        reasons.append(f"trained for {model.trained_context} tokens")
    if model.geometry and sized.engine == "llamacpp":
        total = estimate_model(sized, model, sized.context, sized.max_in_flight).total
        reasons.append(f"needs {format_bytes(total)} of {format_bytes(machine.memory_bytes)}")
    reasons.append("1 core" if machine.cores == 1 else f"{machine.cores} cores")
    return f"{', '.join(parts)} ({'; '.join(reasons)})"
