"""A row of the catalog: the properties by which the field compares small models."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from routers.config_models import Count, Strict

Repository = Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
Month = Annotated[str, Field(pattern=r"^20\d\d-(0[1-9]|1[0-2])$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

Paradigm = Literal["pre-trained", "continued", "instruction-tuned", "distilled", "pruned-and-distilled"]
LocalEngineKind = Literal["llamacpp", "vllm"]
"""What runs a model on this machine."""
Domain = Literal["general", "code", "mathematics", "science"]
Attention = Literal["mha", "mqa", "gqa", "mla", "none"]


class GgufReference(Strict):
    """Where a GGUF file is: in a repository of Hugging Face, or in a package on the Python index."""

    repository: Repository | None = None
    """Repository on Hugging Face."""
    quantisation: str = "Q4_K_M"
    """Quantisation that is fetched unless another one is asked for."""
    package: str | None = None
    """Requirement of the package that holds the file, with its version."""
    member: str | None = None
    """Path of the file in the package."""
    sha256: Digest | None = None
    """Checksum of the file."""
    bytes: Count | None = None
    """Size of the file."""

    @model_validator(mode="after")
    def _check_place(self) -> Self:
        package = (self.package, self.member, self.sha256, self.bytes)
        if (self.repository is None) == (self.package is None):
            raise ValueError("gguf needs a repository or a package, not both")
        if self.package and None in package:
            raise ValueError("a package needs member, sha256 and bytes")
        return self


class LayerScaling(Strict):
    """What differs between layers, one number for each layer. What is absent is the same in all layers."""

    heads: tuple[Count, ...] | None = None
    """Query heads of each layer."""
    kv_heads: tuple[Count, ...] | None = None
    """Key-value heads of each layer."""
    ffn_size: tuple[Count, ...] | None = None
    """Inner size of each layer's feed-forward block."""


class ModelCard(Strict):
    """One model. A cell that no source gives is null."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    """Name in the catalog, in lower case. It is what `serve --slm` and `models show` take."""
    aliases: tuple[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._:-]*$")], ...] = ()
    """Other names that find this row, Ollama's among them."""
    family: str
    """Family that the model belongs to."""
    parameters: Count
    """Number of parameters of the language model. The encoders of pictures and sound are not counted."""
    released: Month
    """Month of the first release, `YYYY-MM`."""
    paradigm: Paradigm
    """How the weights came to be: pre-trained, pre-training continued from another model, instruction-tuned, distilled
    from a larger model, or pruned and then distilled."""
    domain: Domain = "general"
    """What the model was trained for."""
    training_data: str | None = None
    """Data sets of the pre-training, or of the tuning if the model was only tuned. `not published` if its makers
    don't say."""
    training_tokens: Count | None = None
    """Tokens seen in pre-training, all epochs together."""
    techniques: tuple[str, ...] = ()
    """Training techniques that its makers name, such as SFT, DPO, RLHF, distillation."""
    attention: Attention | None = None
    """Kind of attention: multi-head (`mha`), multi-query (`mqa`), grouped-query (`gqa`), multi-head latent (`mla`), or
    `none` in a recurrent model."""
    kernel: str | None = None
    """Attention that differs from plain causal attention, or the kernel that its makers trained with: sliding window,
    block-sparse, FlashAttention-2."""
    ffn: Literal["gated", "plain"] | None = None
    """Feed-forward block: with a gate (three matrices) or plain (two)."""
    activation: str | None = None
    """Activation function of the feed-forward block, as configurations spell it: `silu`, `gelu`, `gelu_pytorch_tanh`,
    `gelu_new`, `relu`, `relu2`. A gated block with `silu` is SwiGLU, one with `gelu` GeGLU."""
    normalisation: str | None = None
    """Normalisation of the layers: `rmsnorm`, `layernorm`, `layernorm-no-weights`."""
    positions: str | None = None
    """How positions are encoded: `rope`, `rope-partial` (of a part of each head), `rope-nope` (not in all
    layers), `learned`, `alibi`, `sinusoidal`, `relative`."""
    shared_embeddings: bool | None = None
    """Whether the output matrix is the embedding matrix."""
    shared_layers: str | None = None
    """Weights or caches that several layers share, in words."""
    layer_scaling: LayerScaling | None = None
    """Sizes that differ from layer to layer, as in OpenELM."""
    vocabulary: Count | None = None
    """Rows of the embedding matrix."""
    context: Count | None = None
    """Longest context in tokens that the model was made for."""
    layers: Count | None = None
    """Number of layers; of an encoder-decoder, those of the decoder."""
    encoder_layers: Count | None = None
    """Layers of the encoder. Null if there is only a decoder."""
    hidden_size: Count | None = None
    """Size of the hidden state."""
    heads: Count | None = None
    """Query heads of a layer, the most of any layer."""
    kv_heads: Count | None = None
    """Key-value heads of a layer, the most of any layer."""
    head_dim: Count | None = None
    """Size of one head."""
    ffn_size: Count | None = None
    """Inner size of the feed-forward block, the largest of any layer."""
    experts: Count | None = None
    """Feed-forward blocks of a mixture-of-experts layer. Null if the model is dense."""
    sliding_window: Count | None = None
    """Tokens that a layer with local attention sees."""
    full_attention_every: Annotated[int, Field(ge=0)] = 1
    """Every how many layers one attends to the whole context: 1 is every layer. The others see `sliding_window` tokens,
    or are recurrent or convolutional. 0 if no layer does, or if they are in no regular order."""
    attention_layers: Count | None = None
    """Layers with attention, if the others are recurrent or convolutional: those keep no cache that grows."""
    recurrent_parameters: Count | None = None
    """Weights by which one layer without attention mixes tokens."""
    kv_shared_layers: Count | None = None
    """Last layers that read the key-value cache of an earlier layer and keep none of their own."""
    global_head_dim: Count | None = None
    """Size of one head in the layers with full attention, if it differs from `head_dim`."""
    embedding_per_layer: Count | None = None
    """Size of the further embedding that each layer adds per token (Gemma 3n and 4)."""
    q_lora_rank: Count | None = None
    """Size to which queries are compressed (`mla` only)."""
    kv_lora_rank: Count | None = None
    """Size to which keys and values are compressed (`mla` only): what the cache holds."""
    rope_head_dim: Count | None = None
    """Part of a head that carries the position (`mla` only): the cache holds it once per token."""
    scores: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Published scores: source, then benchmark, then value as published."""
    licence: str
    """Licence of the weights: its SPDX identifier, or its name if it has none."""
    safetensors: Repository | None = None
    """Repository on Hugging Face with the weights for vLLM."""
    gguf: GgufReference | None = None
    """The weights for llama.cpp."""
    tool_parser: str | None = None
    """vLLM's parser for the tool calls that the model writes. Null if vLLM has none for it."""
    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    """Where the cells come from."""
    unverified: tuple[str, ...] = ()
    """Cells that only a survey or general knowledge supports."""
    note: str | None = None
    """Why a cell differs from a survey, or from what the other cells suggest."""
    count_exception: str | None = None
    """Why `parameters` differs by more than 10 % from what the geometry gives."""

    @property
    def engine(self) -> LocalEngineKind:
        """The engine that runs it unless the user chooses the other."""
        return "vllm" if self.gguf is None else "llamacpp"

    @model_validator(mode="after")
    def _check_unverified(self) -> Self:
        unknown = [name for name in self.unverified if name not in type(self).model_fields]
        if unknown:
            raise ValueError(f"unverified names no cell: {', '.join(unknown)}")
        return self
