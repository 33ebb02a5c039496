"""Recommends models that fit a given memory, context and number of requests at the same time."""

from collections.abc import Iterable, Iterator
from math import log2
from pathlib import Path
from typing import NamedTuple

from gateway.local.models.card import LocalEngineKind, ModelCard
from gateway.local.models.config_geometry import read_config_geometry
from gateway.local.models.geometry import Geometry, card_geometry
from gateway.local.models.gguf import list_parts, read_gguf_metadata, read_quantisation
from gateway.local.models.gguf_geometry import parse_gguf_geometry
from gateway.local.models.memory import KV_BYTES, MemoryEstimate, describe_memory, estimate_memory
from gateway.local.models.quantised_size import estimate_weights
from policies.loading.yaml_files import ConfigError

SMALLER_QUANTISATIONS = ("Q4_K_M", "Q4_K_S", "IQ4_XS", "Q3_K_M")
"""What is tried if the preferred quantisation does not fit. With less than three bits small models lose too much."""
BASE_MODELS = ("pre-trained", "continued")
"""Paradigms of models that continue texts, and were not tuned to answer."""
PAIRS_PER_YEAR = 1.0
"""How many doublings of the parameters a year of progress is worth in the ranking. The density of capabilities has
doubled in less than that (https://arxiv.org/abs/2412.04315)."""


class Need(NamedTuple):
    """What a model must fit."""

    memory_bytes: int
    context: int
    concurrency: int
    kv_type: str = "f16"


class Recommendation(NamedTuple):
    """A model that fits, in the largest of its quantisations that does."""

    name: str
    engine: LocalEngineKind
    reference: str
    """What `serve --slm` takes."""
    quantisation: str
    memory: MemoryEstimate
    context: int
    slots: int

    @property
    def command(self) -> str:
        return f"smallfirst serve --slm {self.reference}"

    @property
    def yaml(self) -> str:
        keys = {"engine": self.engine, "model": self.reference, "context": self.context, "slots": self.slots}
        return "\n".join(["local:", *(f"  {key}: {value}" for key, value in keys.items())])


def recommend_cards(
    cards: Iterable[ModelCard], need: Need, engine: LocalEngineKind | None = None
) -> list[Recommendation]:
    """Return the catalog's models that fit, the best first: by parameters, where a newer model counts for more."""
    fitting = [
        (_rank(card), recommendation)
        for card in cards
        if (recommendation := _recommend_card(card, need, engine)) is not None
    ]
    return [recommendation for _, recommendation in sorted(fitting, key=lambda pair: pair[0], reverse=True)]


def _rank(card: ModelCard) -> float:
    year, month = map(int, card.released.split("-"))
    return log2(card.parameters) + PAIRS_PER_YEAR * (year + month / 12)


def _recommend_card(card: ModelCard, need: Need, engine: LocalEngineKind | None) -> Recommendation | None:
    geometry = card_geometry(card)
    if geometry is None or card.encoder_layers or (card.context or 0) < need.context:
        return None
    options = (option for option in _list_options(card, geometry) if engine in (None, option[0]))
    for option_engine, reference, quantisation, weights in options:
        memory = _estimate(geometry, weights, need, option_engine)
        if memory.total <= need.memory_bytes:
            return Recommendation(
                card.name, option_engine, reference, quantisation, memory, need.context, need.concurrency
            )
    return None


def _list_options(card: ModelCard, geometry: Geometry) -> Iterator[tuple[LocalEngineKind, str, str, int]]:
    """Yield the ways to run a model, the best first: engine, reference, quantisation, bytes of the weights."""
    if (gguf := card.gguf) is not None and gguf.bytes:
        yield "llamacpp", card.name, gguf.quantisation, gguf.bytes
    elif gguf is not None:
        for quantisation in dict.fromkeys((gguf.quantisation, *SMALLER_QUANTISATIONS)):
            if (weights := estimate_weights(geometry, card.parameters, quantisation)) is not None:
                yield "llamacpp", f"{gguf.repository}:{quantisation}", quantisation, weights
    if card.safetensors is not None:
        yield "vllm", card.safetensors, "BF16", 2 * card.parameters


def describe_card(card: ModelCard, context: int = 8192, concurrency: int = 4) -> Iterator[str]:
    """Yield printable lines about the memory of a catalog's model in the quantisation that is preferred, and how to
    serve it. Yield none if the row lacks what decides the memory."""
    geometry = card_geometry(card)
    if geometry is None or card.encoder_layers:
        return
    if (option := next(_list_options(card, geometry), None)) is not None:
        _, reference, quantisation, weights = option
        tokens = min(context, card.context or context)
        yield from describe_memory(geometry, weights, tokens, concurrency, quantisation=quantisation)
        yield f"serve        smallfirst serve --slm {reference}"


def recommend_paths(paths: Iterable[Path], need: Need) -> list[Recommendation]:
    """Return those GGUF files and folders that fit, the largest first. Raises ConfigError for one that is neither."""
    models = [_measure_path(path, need) for path in paths]
    fitting = [model for model in models if model.memory.total <= need.memory_bytes]
    return sorted(fitting, key=lambda model: model.memory.weights, reverse=True)


def _measure_path(path: Path, need: Need) -> Recommendation:
    try:
        engine, geometry, quantisation, weights = _read_path(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be measured: {error}") from error
    memory = _estimate(geometry, weights, need, engine)
    name = path.name if path.is_dir() else path.stem
    return Recommendation(name, engine, str(path), quantisation, memory, need.context, need.concurrency)


def _read_path(path: Path) -> tuple[LocalEngineKind, Geometry, str, int]:
    if path.is_dir():
        weights = sum(file.stat().st_size for file in path.glob("*.safetensors"))
        return "vllm", read_config_geometry(path), "as stored", weights
    metadata = read_gguf_metadata(path)
    quantisation = read_quantisation(metadata) or "unknown"
    return (
        "llamacpp",
        parse_gguf_geometry(metadata),
        quantisation,
        sum(part.stat().st_size for part in list_parts(path)),
    )


def _estimate(geometry: Geometry, weights: int, need: Need, engine: LocalEngineKind) -> MemoryEstimate:
    return estimate_memory(geometry, weights, need.context, need.concurrency, KV_BYTES[need.kv_type], engine)
