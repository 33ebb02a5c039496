"""Estimates the memory that a model needs: weights, key-value cache, activations."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from .geometry import Geometry, LayerCache

KV_BYTES = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "fp8": 1.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}
"""Bytes of one number in the key-value cache, by its type. The quantised types keep a scale for 32 numbers."""
STATE_BYTES = 4
"""Bytes of one number of a recurrent state."""
BATCH_TOKENS = 512
"""Tokens of a prompt that llama.cpp reads at a time."""
CELLS = 256
"""llama.cpp's caches hold a multiple of so many tokens."""
BLOCK_TOKENS = 16
"""Tokens in a block of vLLM's cache."""


class MemoryEstimate(NamedTuple):
    """Bytes that a model needs."""

    weights: int
    kv_cache: int
    activations: int

    @property
    def total(self) -> int:
        return sum(self)


def estimate_memory(
    geometry: Geometry,
    weights_bytes: int,
    context: int,
    concurrency: int,
    kv_bytes_per_value: float = KV_BYTES["f16"],
    engine: Literal["llamacpp", "vllm"] = "llamacpp",
) -> MemoryEstimate:
    """Estimate the memory for `concurrency` requests of `context` tokens each, at the same time."""
    cache = estimate_kv_cache(geometry, context, kv_bytes_per_value, engine) * concurrency
    return MemoryEstimate(weights_bytes, cache, estimate_activations(geometry, context, concurrency))


def kv_bytes_per_token(geometry: Geometry, kv_bytes_per_value: float = KV_BYTES["f16"]) -> float:
    """Return the bytes that one more token takes in the key-value cache, while no window is full."""
    return sum(layer.values for layer in geometry.caches) * kv_bytes_per_value


def estimate_kv_cache(
    geometry: Geometry,
    context: int,
    kv_bytes_per_value: float = KV_BYTES["f16"],
    engine: Literal["llamacpp", "vllm"] = "llamacpp",
) -> int:
    """Return the bytes that one request of `context` tokens takes in the cache, recurrent states included."""
    tokens = _round_up(context, CELLS if engine == "llamacpp" else BLOCK_TOKENS)
    values = sum(layer.values * _limit_to_window(layer, tokens) for layer in geometry.caches)
    return int(values * kv_bytes_per_value) + geometry.state_values * STATE_BYTES


def _limit_to_window(layer: LayerCache, tokens: int) -> int:
    """Return the tokens of which a layer keeps keys and values. A window slides over a batch as a whole."""
    return tokens if layer.window is None else min(tokens, _round_up(layer.window + BATCH_TOKENS, CELLS))


def estimate_activations(geometry: Geometry, context: int, concurrency: int) -> int:
    """Return the bytes of llama.cpp's compute buffer as it is run here: a batch's logits or inner states, the hidden
    states beside them, the attention mask, and the logits of each request's last token.

    The factors 5 and 3 are those of the buffers that llama.cpp reports.
    """
    mask = BATCH_TOKENS * _round_up(context, CELLS) * 2
    row = 5 * geometry.hidden_size + max(geometry.vocabulary, 3 * geometry.ffn_size)
    return mask + BATCH_TOKENS * row * 4 + concurrency * (geometry.vocabulary + geometry.hidden_size) * 4


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step


def describe_memory(
    geometry: Geometry,
    weights_bytes: int,
    context: int,
    concurrency: int,
    kv_type: str = "f16",
    quantisation: str = "",
) -> Iterator[str]:
    """Yield printable lines about the memory that a model needs."""
    estimate = estimate_memory(geometry, weights_bytes, context, concurrency, KV_BYTES[kv_type])
    requests = "1 request" if concurrency == 1 else f"{concurrency} requests"
    per_token = f"{kv_bytes_per_token(geometry, KV_BYTES[kv_type]) / 1024:.1f} KiB a token"
    notes = (quantisation, f"{requests} of {context} tokens, {kv_type}, {per_token}", "", "")
    names = ("weights", "KV cache", "activations", "total")
    for name, size, note in zip(names, (*estimate, estimate.total), notes, strict=True):
        yield f"{name:11}  {format_bytes(size):>9}  {note}".rstrip()


def format_bytes(number: int) -> str:
    """Return a size in binary units: `92 MiB`, `1.4 GiB`."""
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"
