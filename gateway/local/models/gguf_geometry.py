"""Reads a model's geometry from a GGUF file's metadata, as llama.cpp does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .geometry import (
    Geometry,
    LayerCache,
    fit_to_layers,
    mark_full_layers,
    name_attention,
    read_count,
    require_count,
    require_layers,
)
from .gguf import LongArray, read_gguf_metadata

FULL_ATTENTION_EVERY = {
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "cohere2": 4,
    "gpt-oss": 2,
    "exaone4": 4,
    "olmo2": 4,
}
"""Every how many layers one attends to the whole context, for architectures whose files don't say."""


def read_gguf_geometry(path: Path) -> Geometry:
    """Return the geometry of a GGUF file's model. Raises ValueError that names the file, or OSError."""
    metadata = read_gguf_metadata(path)
    try:
        return parse_gguf_geometry(metadata)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse_gguf_geometry(metadata: Mapping[str, Any]) -> Geometry:
    """Return the geometry that a file's metadata tell. Raises ValueError."""
    prefix = f"{metadata.get('general.architecture')}."
    values = {name.removeprefix(prefix): value for name, value in metadata.items() if name.startswith(prefix)}
    layers = require_layers(values, "block_count")
    layers = max(1, layers - (read_count(values, "nextn_predict_layers") or 0))
    hidden = require_count(values, "embedding_length")
    heads = fit_to_layers(values.get("attention.head_count"), layers, 0)
    kv_heads = _read_kv_heads(values, heads, layers)
    caches = _list_caches(values, prefix.rstrip("."), heads, kv_heads, hidden)
    return Geometry(
        layers=layers,
        hidden_size=hidden,
        heads=max(heads),
        vocabulary=_read_vocabulary(values, metadata),
        ffn_size=max(fit_to_layers(values.get("feed_forward_length"), layers, 0)),
        attention=(
            ("mla" if _has_latent_cache(values) else name_attention(max(heads), max(kv_heads)))
            if caches
            else "none"
        ),
        caches=tuple(caches),
        state_values=_count_state_values(values, hidden, layers - len(caches)),
        context=read_count(values, "context_length"),
        has_shared_embeddings=False,
    )


def _read_kv_heads(values: Mapping[str, Any], heads: list[int], layers: int) -> list[int]:
    """Return the key-value heads of each layer, 0 for a recurrent one."""
    if (given := values.get("attention.head_count_kv")) is None:
        return heads
    kv_heads = fit_to_layers(given, layers, 0)
    every = read_count(values, "full_attention_interval")
    full = mark_full_layers(layers, every) if every else [True] * layers
    return [count if is_full else 0 for count, is_full in zip(kv_heads, full, strict=True)]


def _list_caches(
    values: Mapping[str, Any], architecture: str, heads: list[int], kv_heads: list[int], hidden: int
) -> list[LayerCache]:
    """Return the caches of the layers that keep one. Gemma's last layers read those of earlier layers."""
    windows = _list_windows(values, architecture, len(kv_heads))
    own = len(kv_heads) - (read_count(values, "attention.shared_kv_layers") or 0)
    if _has_latent_cache(values):
        latent = require_count(values, "attention.kv_lora_rank") + (
            read_count(values, "rope.dimension_count") or 0
        )
        return [LayerCache(latent)] * own
    return [
        LayerCache(
            count * _read_head_values(values, hidden, max(heads), in_window=window is not None), window
        )
        for count, window in list(zip(kv_heads, windows, strict=True))[:own]
        if count
    ]


def _has_latent_cache(values: Mapping[str, Any]) -> bool:
    """Return whether llama.cpp caches latents. Files without the second key hold weights for plain attention."""
    return bool(values.get("attention.kv_lora_rank")) and "attention.key_length_mla" in values


def _read_head_values(values: Mapping[str, Any], hidden: int, heads: int, *, in_window: bool) -> int:
    """Return how many numbers a key and a value of one head are together."""
    default = hidden // heads if heads else 0
    swa = ("attention.key_length_swa", "attention.value_length_swa") if in_window else ("", "")
    key = read_count(values, swa[0], "attention.key_length")
    value = read_count(values, swa[1], "attention.value_length")
    return (default if key is None else key) + (default if value is None else value)


def _list_windows(values: Mapping[str, Any], architecture: str, layers: int) -> list[int | None]:
    """Return the window of each layer, None for one that attends to the whole context."""
    window, pattern = (
        read_count(values, "attention.sliding_window"),
        values.get("attention.sliding_window_pattern", FULL_ATTENTION_EVERY.get(architecture)),
    )
    if not window or pattern is None:
        return [None] * layers
    if isinstance(pattern, list):
        slides = fit_to_layers([int(bool(flag)) for flag in pattern], layers, 0)
        return [window if flag else None for flag in slides]
    full = mark_full_layers(
        layers, require_count({"sliding_window_pattern": pattern}, "sliding_window_pattern")
    )
    return [None if is_full else window for is_full in full]


def _count_state_values(values: Mapping[str, Any], hidden: int, recurrent_layers: int) -> int:
    """Return how many numbers all recurrent layers keep for a sequence: of convolutions, and of the states."""
    inner = read_count(values, "ssm.inner_size") or 0
    state = read_count(values, "ssm.state_size") or 0
    groups = read_count(values, "ssm.group_count") or 0
    kernel = read_count(values, "ssm.conv_kernel") or 1
    short = read_count(values, "shortconv.l_cache") or 1
    wkv = read_count(values, "wkv.head_size")
    layer = (kernel - 1) * (inner + 2 * groups * state) + state * inner + (short - 1) * hidden
    return recurrent_layers * (layer + ((wkv + 2) * hidden if wkv else 0))


def _read_vocabulary(values: Mapping[str, Any], metadata: Mapping[str, Any]) -> int:
    if count := read_count(values, "vocab_size"):
        return count
    match metadata.get("tokenizer.ggml.tokens"):
        case LongArray(length):
            return length
        case list() as tokens:
            return len(tokens)
    return 0
