"""Checks that a model fits: that it was trained for the context, and that the memory holds it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from gateway.local.models.geometry import Geometry
from gateway.local.models.memory import KV_BYTES, MemoryEstimate, estimate_memory, format_bytes
from gateway.local.settings import LocalEngine
from policies.loading.yaml_files import ConfigError

from .machine import Machine

MEMORY_SAVING_ARGUMENTS = frozenset({"quantization", "cpu-offload-gb", "load-format", "tensor-parallel-size"})
"""vLLM's arguments with which the memory of the weights differs from the size of their files."""


class Model(NamedTuple):
    """What is known of a model that decides its memory."""

    name: str
    weights_bytes: int
    geometry: Geometry | None = None
    """None if it is not known."""
    context: int | None = None
    """Tokens that it was trained for, if they are known from elsewhere than its geometry."""

    @property
    def trained_context(self) -> int | None:
        return self.context or (self.geometry.context if self.geometry else None)


def check_context(local: LocalEngine, model: Model) -> None:
    """Check that the model was trained for the configured context. Raises ConfigError."""
    trained = model.trained_context
    if not local.context or not trained or local.context <= trained:
        return
    if any("rope" in name or name == "hf-overrides" for name in normalise_names(local.arguments)):
        return
    raise ConfigError(
        f"local.context: {local.context} tokens, and {model.name} was trained for {trained}; set it to {trained} or"
        " less, or scale the positions by RoPE arguments under local.arguments"
    )


def check_memory(local: LocalEngine, model: Model, machine: Machine) -> None:
    """Check that an engine with these settings fits into memory. Raises ConfigError with the numbers.

    The check uses the total memory, not the free one, as other processes may exit before the engine needs it.
    """
    if MEMORY_SAVING_ARGUMENTS & normalise_names(local.arguments).keys():
        return
    if local.engine == "vllm" or model.geometry is None or local.context is None:
        if model.weights_bytes > machine.max_bytes:
            raise ConfigError(
                f"{model.name}: the weights take {model.weights_bytes / 1e9:.1f} GB, and {machine.name} has"
                f" {machine.max_bytes / 1e9:.1f} GB; take a smaller quantisation or model"
            )
        return
    estimate = estimate_model(local, model, local.context, local.max_in_flight)
    if estimate.total > machine.max_bytes:
        raise ConfigError(
            f"local: {model.name} needs {format_bytes(estimate.total)}, and {machine.name} has"
            f" {format_bytes(machine.max_bytes)}: weights {format_bytes(estimate.weights)}, the KV cache of"
            f" {count_slots(local)} of {local.context} tokens {format_bytes(estimate.kv_cache)}, activations"
            f" {format_bytes(estimate.activations)}; lower local.context or local.slots, or take a smaller model"
        )


def estimate_model(local: LocalEngine, model: Model, context: int, slots: int) -> MemoryEstimate:
    if model.geometry is None:
        return MemoryEstimate(model.weights_bytes, 0, 0)
    return estimate_memory(model.geometry, model.weights_bytes, context, slots, read_kv_bytes(local))


def read_kv_bytes(local: LocalEngine) -> float:
    """Return the bytes of one number in the engine's key-value cache, by its arguments."""
    arguments = normalise_names(local.arguments)
    if local.engine == "vllm":
        is_single = str(arguments.get("dtype")) in ("float", "float32")
        is_eight = str(arguments.get("kv-cache-dtype", "")).startswith("fp8")
        return KV_BYTES["fp8" if is_eight else "f32" if is_single else "f16"]
    types = (str(arguments.get(f"cache-type-{side}", "f16")) for side in "kv")
    return sum(KV_BYTES.get(kind, KV_BYTES["f16"]) for kind in types) / 2


def normalise_names(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "-").removeprefix("--"): value for name, value in arguments.items()}


def count_slots(local: LocalEngine) -> str:
    return "1 slot" if local.max_in_flight == 1 else f"{local.max_in_flight} slots"
