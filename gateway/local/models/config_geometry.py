"""Reads a model's geometry from a `config.json` of Hugging Face, as vLLM does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from .geometry import (
    Geometry,
    LayerCache,
    caches_latents,
    fit_to_layers,
    mark_full_layers,
    name_attention,
    read_count,
    require_count,
    require_layers,
)

TEXT_SECTIONS = ("text_config", "llm_config", "language_config")
"""Where a model that sees or hears has the settings of its language model."""
FULL_ATTENTION = frozenset({"full_attention", "attention", "global"})
SLIDING_ATTENTION = frozenset({"sliding_attention", "local", "chunked_attention"})
FIXED_SCALINGS = frozenset({"default", "su", "longrope", "llama3", "yarn", "deepseek_yarn", "mrope"})
"""Scalings of RoPE by which `max_position_embeddings` need not be multiplied."""


def read_config_geometry(source: Path | Mapping[str, Any]) -> Geometry:
    """Return the geometry of a folder with a `config.json`, or of that file's content. Raises ValueError or OSError."""
    if isinstance(source, Path):
        path = source / "config.json"
        try:
            return parse_config_geometry(orjson.loads(path.read_bytes()))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return parse_config_geometry(source)


def parse_config_geometry(config: Any) -> Geometry:
    if not isinstance(config, Mapping):
        raise ValueError("is no JSON object")
    config = next((config[name] for name in TEXT_SECTIONS if isinstance(config.get(name), Mapping)), config)
    layers = require_layers(config, "num_hidden_layers", "num_transformer_layers", "n_layers", "n_layer")
    hidden = require_count(config, "hidden_size", "model_dim", "n_embd", "d_model")
    heads = _read_per_layer(config, layers, 0, "num_attention_heads", "num_query_heads", "n_head", "n_heads")
    kv_heads = _read_kv_heads(config, heads, layers)
    kinds = _list_kinds(config, layers)
    caches = _list_caches(config, heads, kv_heads, hidden, kinds)
    return Geometry(
        layers=layers,
        hidden_size=hidden,
        heads=max(heads),
        vocabulary=read_count(config, "vocab_size", "padded_vocab_size") or 0,
        ffn_size=max(_read_per_layer(config, layers, 4 * hidden, "intermediate_size", "n_inner", "ffn_dim")),
        attention=(
            ("mla" if config.get("kv_lora_rank") else name_attention(max(heads), max(kv_heads)))
            if caches
            else "none"
        ),
        caches=tuple(caches),
        state_values=_count_state_values(config, hidden, kinds),
        context=_read_context(config),
        has_shared_embeddings=config.get("tie_word_embeddings") is not False,
    )


def _read_per_layer(config: Mapping[str, Any], layers: int, default: int, *names: str) -> list[int]:
    return fit_to_layers(next((config[name] for name in names if config.get(name)), None), layers, default)


def _read_kv_heads(config: Mapping[str, Any], heads: list[int], layers: int) -> list[int]:
    names = ("num_key_value_heads", "num_kv_heads", "multi_query_group_num", "n_kv_heads")
    if config.get("multi_query") is True:
        return [read_count(config, *names) or 1] * layers
    return _read_per_layer(config, layers, max(heads), *names)


def _list_kinds(config: Mapping[str, Any], layers: int) -> Sequence[str]:
    """Return each layer's kind, by the names of `layer_types`."""
    for name in ("layer_types", "layers_block_type"):
        given = config.get(name)
        if isinstance(given, list) and len(given) >= layers:
            return [str(kind) for kind in given[:layers]]
    if every := read_count(config, "full_attention_interval"):
        other = "linear_attention"
    elif every := read_count(config, "sliding_window_pattern", "_sliding_window_pattern"):
        other = "sliding_attention"
    elif config.get("model_type") == "gemma2":
        every, other = 2, "sliding_attention"
    elif config.get("sliding_window") and config.get("use_sliding_window") is not False:
        return ["sliding_attention"] * layers
    else:
        has_heads = any(
            config.get(name) for name in ("num_attention_heads", "num_query_heads", "n_head", "n_heads")
        )
        return ["full_attention" if has_heads else "mamba"] * layers
    return ["full_attention" if is_full else other for is_full in mark_full_layers(layers, every)]


def _list_caches(
    config: Mapping[str, Any], heads: list[int], kv_heads: list[int], hidden: int, kinds: Sequence[str]
) -> list[LayerCache]:
    """Return the caches of the layers that keep one. Gemma's last layers read those of earlier layers."""
    own = len(kinds) - (read_count(config, "num_kv_shared_layers") or 0)
    head_dim = _read_head_dim(config, hidden, max(heads))
    global_dim = read_count(config, "global_head_dim") or head_dim
    global_heads = read_count(config, "num_global_key_value_heads")
    latent = read_count(config, "kv_lora_rank") or 0
    if caches_latents(latent):
        return [LayerCache(latent + (read_count(config, "qk_rope_head_dim") or 0))] * own
    caches = []
    for kind, count in list(zip(kinds, kv_heads, strict=True))[:own]:
        if kind in SLIDING_ATTENTION:
            caches.append(LayerCache(2 * count * head_dim, read_count(config, "sliding_window")))
        elif kind in FULL_ATTENTION:
            caches.append(LayerCache(2 * (global_heads or count) * global_dim))
    return caches


def _read_head_dim(config: Mapping[str, Any], hidden: int, heads: int) -> int:
    if without_position := read_count(config, "qk_nope_head_dim"):
        return without_position + (read_count(config, "qk_rope_head_dim") or 0)
    return read_count(config, "head_dim") or (hidden // heads if heads else 0)


def _count_state_values(config: Mapping[str, Any], hidden: int, kinds: Sequence[str]) -> int:
    """Return how many numbers the recurrent layers keep for a sequence: of convolutions, and of the states."""
    recurrent = sum(kind not in FULL_ATTENTION | SLIDING_ATTENTION for kind in kinds)
    if short := read_count(config, "conv_L_cache"):
        return recurrent * short * hidden
    if value_heads := read_count(config, "linear_num_value_heads"):
        keys = (read_count(config, "linear_num_key_heads") or value_heads) * (
            read_count(config, "linear_key_head_dim") or 128
        )
        inner = value_heads * (read_count(config, "linear_value_head_dim") or 128)
        kernel = read_count(config, "linear_conv_kernel_dim") or 4
        return recurrent * (
            (kernel - 1) * (2 * keys + inner) + inner * (read_count(config, "linear_key_head_dim") or 128)
        )
    inner = (read_count(config, "mamba_expand", "expand") or 2) * hidden
    state = read_count(config, "mamba_d_state", "state_size") or 16
    return recurrent * inner * (state + (read_count(config, "mamba_d_conv", "conv_kernel") or 4) - 1)


def _read_context(config: Mapping[str, Any]) -> int | None:
    names = (
        "max_position_embeddings",
        "n_positions",
        "max_context_length",
        "max_sequence_length",
        "max_seq_len",
        "seq_length",
    )
    context = read_count(config, *names)
    scaling = config.get("rope_scaling") or config.get("rope_parameters")
    if not context or not isinstance(scaling, Mapping) or config.get("model_type", "").startswith("gemma3"):
        return context or None
    factor = scaling.get("factor")
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind in FIXED_SCALINGS or not isinstance(factor, int | float):
        return context
    return int(context * factor)
