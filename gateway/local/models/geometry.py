"""The geometry of a model that decides what memory it needs: layers, heads, attention windows, vocabulary.

It is read from a GGUF file's metadata, from a `config.json` of Hugging Face, or from a row of the catalog.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

MAX_LAYERS = 4096
MIN_LATENT = 512
"""Smallest size of latents that the engines cache."""
STATE_SIZE = 128
"""Numbers that a recurrent layer keeps for each of its inner channels, in the models of the catalog."""

Attention = Literal["mha", "mqa", "gqa", "mla", "none"]


class LayerCache(NamedTuple):
    """What one layer keeps per token: `values` numbers, of the last `window` tokens or of all if that is None."""

    values: int
    window: int | None = None


@dataclass(frozen=True, slots=True)
class Geometry:
    """What is known of a model's shape. What the source doesn't say is None."""

    layers: int
    hidden_size: int
    heads: int
    vocabulary: int
    ffn_size: int
    attention: Attention
    caches: tuple[LayerCache, ...]
    """One for each layer that keeps keys and values of its own."""
    state_values: int = 0
    """Numbers that recurrent layers keep for each sequence, whatever its length."""
    context: int | None = None
    """Longest context in tokens that the model was trained for."""
    parameters: int | None = None
    has_shared_embeddings: bool = True
    """Whether the output matrix is the embedding matrix."""


class Card(Protocol):
    """What is read of a catalog row. A cell that no source gives is None."""

    parameters: int
    attention: Attention | None
    kernel: str | None
    recurrent_parameters: int | None
    shared_embeddings: bool | None
    layer_scaling: Any
    vocabulary: int | None
    context: int | None
    layers: int | None
    hidden_size: int | None
    heads: int | None
    kv_heads: int | None
    head_dim: int | None
    ffn_size: int | None
    sliding_window: int | None
    full_attention_every: int
    attention_layers: int | None
    kv_shared_layers: int | None
    global_head_dim: int | None
    kv_lora_rank: int | None
    rope_head_dim: int | None


def card_geometry(card: Card) -> Geometry | None:
    """Return the geometry of a catalog row; None if the row lacks what decides the memory."""
    if not (card.layers and card.hidden_size and card.heads and card.vocabulary):
        return None
    kv_heads = card.kv_heads or card.heads
    head_dim = card.head_dim or card.hidden_size // card.heads
    return Geometry(
        layers=card.layers,
        hidden_size=card.hidden_size,
        heads=card.heads,
        vocabulary=card.vocabulary,
        ffn_size=card.ffn_size or 4 * card.hidden_size,
        attention=card.attention or name_attention(card.heads, kv_heads),
        caches=tuple(_list_card_caches(card, kv_heads, head_dim)),
        state_values=_estimate_card_states(card),
        context=card.context,
        parameters=card.parameters,
        has_shared_embeddings=card.shared_embeddings is not False,
    )


def _list_card_caches(card: Card, kv_heads: int, head_dim: int) -> list[LayerCache]:
    layers = card.layers or 0
    if card.attention == "none":
        return []
    if caches_latents(card.kv_lora_rank):
        return [LayerCache((card.kv_lora_rank or 0) + (card.rope_head_dim or 0))] * layers
    if card.kv_lora_rank:
        head_dim += card.rope_head_dim or 0
    if card.attention_layers is not None:
        return [LayerCache(2 * kv_heads * head_dim, card.sliding_window)] * card.attention_layers
    scaled = card.layer_scaling and card.layer_scaling.kv_heads
    heads = list(scaled) if scaled else [kv_heads] * layers
    full = mark_full_layers(layers, card.full_attention_every if card.sliding_window else 1)
    caches = [
        LayerCache(2 * count * (card.global_head_dim or head_dim if is_full else head_dim))
        if is_full
        else LayerCache(2 * count * head_dim, card.sliding_window)
        for count, is_full in zip(heads, full, strict=True)
    ]
    return caches[: layers - (card.kv_shared_layers or 0)]


def _estimate_card_states(card: Card) -> int:
    """Return about how many numbers the recurrent layers keep for a sequence. A row has not all that decides it: the
    inner size is taken from the layer's weights, a fourth of which at least lead into it."""
    hidden, layers = card.hidden_size or 0, card.layers or 0
    if card.attention_layers is None:
        return 0
    if "convolution" in (card.kernel or ""):
        return (layers - card.attention_layers) * 2 * hidden
    inner = (card.recurrent_parameters or 8 * hidden**2) // (4 * hidden)
    return (layers - card.attention_layers) * inner * STATE_SIZE


def caches_latents(kv_lora_rank: int | None) -> bool:
    """Return whether the engines keep the latents of such a model (`mla`). They have kernels for DeepSeek's size, and
    keep the keys and values of all heads for smaller ones (MiniCPM3)."""
    return (kv_lora_rank or 0) >= MIN_LATENT


def mark_full_layers(layers: int, every: int) -> list[bool]:
    """Return for each layer whether it attends to the whole context: every n-th does, or none if that is 0."""
    return [bool(every) and (layer + 1) % every == 0 for layer in range(layers)]


def name_attention(heads: int, kv_heads: int) -> Attention:
    if kv_heads == heads:
        return "mha"
    return "mqa" if kv_heads == 1 else "gqa"


def fit_to_layers(value: Any, layers: int, default: int) -> list[int]:
    """Return one number for each layer, of a number for all of them or of one for each. Raises ValueError."""
    if value is None:
        return [default] * layers
    if not isinstance(value, list):
        return [_check_count("a number of all layers", value)] * layers
    if len(value) < layers:
        raise ValueError(f"has {len(value)} numbers for {layers} layers")
    return [_check_count("a layer's number", number) for number in value[:layers]]


def read_count(values: Mapping[str, Any], *names: str) -> int | None:
    """Return the first of the named values that is there. Raises ValueError if it is no sensible count."""
    for name in names:
        if (value := values.get(name)) is not None:
            return _check_count(name, value)
    return None


def require_count(values: Mapping[str, Any], *names: str) -> int:
    """Return the first of the named values. Raises ValueError if there is none, or it is no count above zero."""
    if not (count := read_count(values, *names)):
        raise ValueError(f"has no {names[0]}")
    return count


def require_layers(values: Mapping[str, Any], *names: str) -> int:
    """Return the number of layers. Raises ValueError as `require_count`, and if no model has so many."""
    if (count := require_count(values, *names)) > MAX_LAYERS:
        raise ValueError(f"{names[0]} is {count}, expected at most {MAX_LAYERS}")
    return count


def _check_count(name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 40:
        raise ValueError(f"{name} is {value!r}, expected a number")
    return value
