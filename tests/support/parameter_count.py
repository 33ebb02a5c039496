"""The number of parameters that a model's geometry gives: a check of the catalog's cells against each other."""

from gateway.local.models.card import ModelCard


def count_parameters(card: ModelCard) -> int | None:
    """Return the weights in a model's matrices, or None if a cell that the count needs is null.

    Biases and normalisation are left out: together they are less than one percent.
    """
    if not (card.layers and card.hidden_size and card.vocabulary and card.heads and card.ffn_size):
        return None
    attention = [_count_attention(card, layer) for layer in range(card.layers)]
    if card.attention_layers:
        attention = attention[: card.attention_layers]
        attention += [card.recurrent_parameters or 0] * (card.layers - card.attention_layers)
    ffn = [_count_ffn(card, layer) for layer in range(card.layers)]
    if card.shared_layers == "feed-forward":
        ffn = ffn[:1]
    encoder = card.encoder_layers or 0
    return (
        _count_embeddings(card)
        + sum(attention) * (2 if encoder else 1)
        + sum(ffn)
        + encoder * (_count_attention(card, 0) + _count_ffn(card, 0))
    )


def _count_embeddings(card: ModelCard) -> int:
    hidden, vocabulary = card.hidden_size or 0, card.vocabulary or 0
    matrices = 1 if card.shared_embeddings else 2
    positions = (card.context or 0) * hidden if card.positions == "learned" else 0
    per_layer = vocabulary * (card.layers or 0) * (card.embedding_per_layer or 0)
    return matrices * vocabulary * hidden + positions + per_layer


def _count_attention(card: ModelCard, layer: int) -> int:
    hidden, heads, kv_heads = card.hidden_size or 0, card.heads or 0, card.kv_heads or card.heads or 0
    if card.layer_scaling and card.layer_scaling.heads and card.layer_scaling.kv_heads:
        heads, kv_heads = card.layer_scaling.heads[layer], card.layer_scaling.kv_heads[layer]
    size = card.head_dim or hidden // heads
    if card.attention == "mla":
        return _count_latent_attention(card, heads, size)
    return 2 * hidden * size * (heads + kv_heads)


def _count_latent_attention(card: ModelCard, heads: int, size: int) -> int:
    hidden = card.hidden_size or 0
    queries, latent, rope = card.q_lora_rank or hidden, card.kv_lora_rank or 0, card.rope_head_dim or 0
    into_latent = hidden * (queries + latent + rope)
    out_of_latent = queries * heads * (size + rope) + latent * heads * 2 * size
    return into_latent + out_of_latent + heads * size * hidden


def _count_ffn(card: ModelCard, layer: int) -> int:
    size = card.ffn_size or 0
    if card.layer_scaling and card.layer_scaling.ffn_size:
        size = card.layer_scaling.ffn_size[layer]
    return (3 if card.ffn == "gated" else 2) * (card.hidden_size or 0) * size * (card.experts or 1)
