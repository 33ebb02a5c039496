"""Finds models in the cache of `huggingface_hub`, and asks nobody."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import orjson

from gateway.local.models.card import LocalEngineKind
from gateway.local.models.gguf import list_parts

from .download import NotFetched
from .quantisations import GgufWeights, choose_weights, find_weights, list_weights
from .reference import HubReference, LocalModel


def find_repository_folder(repository: str) -> Path:
    """Return the folder of a repository in the cache, which may not exist. Its name is part of the cache's documented
    layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache"""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"


def find_snapshot(reference: HubReference) -> Path | None:
    """Return the folder of the reference's revision, or None if nothing of it is here."""
    folder = find_repository_folder(reference.repository)
    ref = folder / "refs" / reference.revision
    commit = ref.read_text().strip() if ref.is_file() else reference.revision
    snapshot = folder / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def list_files(snapshot: Path) -> list[str]:
    """Return the names of the files that are here, relative to the repository."""
    return [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()]


def holds_only_gguf(names: Iterable[str]) -> bool:
    """Return whether a repository has GGUF files, and no weights in another format."""
    endings = {name.rpartition(".")[2].lower() for name in names if "/" not in name}
    return "gguf" in endings and not endings & {"safetensors", "bin", "pt", "pth"}


def choose_engine(
    reference: HubReference, names: Sequence[str], engine: LocalEngineKind | None
) -> LocalEngineKind:
    """Return the engine for a repository: the given one, llama.cpp if only it can run what is there, else vLLM."""
    if engine is not None:
        return engine
    return "llamacpp" if reference.wants_gguf or holds_only_gguf(names) else "vllm"


def choose_gguf(reference: HubReference, names: Sequence[str]) -> GgufWeights:
    """Return the GGUF files that a reference names, of those in its repository. Raises ConfigError."""
    if reference.file is None:
        return choose_weights(names, reference.quantisation, reference.repository)
    parts = tuple(path.as_posix() for path in list_parts(Path(reference.file)))
    return choose_weights(
        [name for name in names if name in parts], reference.model_name, reference.repository
    )


def find_hub_model(reference: HubReference, engine: LocalEngineKind | None, text: str) -> LocalModel:
    """Return the model in the cache. Raises NotFetched if it is not here or not whole."""
    snapshot = find_snapshot(reference)
    names = [] if snapshot is None else list_files(snapshot)
    if snapshot is not None and choose_engine(reference, names, engine) == "llamacpp":
        if weights := _find_gguf(reference, names):
            return LocalModel(name_gguf(reference, weights), "llamacpp", snapshot / weights.files[0], text)
    elif snapshot is not None and holds_checkpoint(snapshot):
        return LocalModel(reference.repository, "vllm", snapshot, text)
    raise NotFetched(f"the weights of {text} are not here; fetch them with: smallfirst models pull {text}")


def name_gguf(reference: HubReference, weights: GgufWeights) -> str:
    return reference.model_name if reference.file else reference.name_quantised(weights.quantisation)


def _find_gguf(reference: HubReference, names: Sequence[str]) -> GgufWeights | None:
    if reference.file is not None:
        parts = [path.as_posix() for path in list_parts(Path(reference.file))]
        here = all(part in names for part in parts)
        return GgufWeights(reference.model_name, tuple(parts), len(parts)) if here else None
    weights = [each for each in list_weights(names) if each.is_complete]
    chosen = find_weights(weights, reference.quantisation)
    return chosen[0] if len(chosen) == 1 else None


def holds_checkpoint(folder: Path) -> bool:
    """Return whether a folder has a configuration and all its weights."""
    has_weights = any(any(folder.glob(pattern)) for pattern in ("*.safetensors", "*.bin"))
    return has_weights and (folder / "config.json").is_file() and not find_missing_weights(folder)


def find_missing_weights(folder: Path) -> list[str]:
    """Return the files of weights that the index in a folder names and that are not there."""
    missing: set[str] = set()
    for index in folder.glob("model.safetensors.index.json"):
        try:
            names = set(orjson.loads(index.read_bytes())["weight_map"].values())
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            names = {index.name}
        missing |= {name for name in names if name == index.name or not (folder / name).is_file()}
    return sorted(missing)
