"""From the reference of a model to its weights on this machine. Contacts nothing."""

import shlex
from pathlib import Path

from gateway.local.models.card import ModelCard
from gateway.local.models.gguf import list_parts
from gateway.local.settings import LocalEngine
from policies.loading.yaml_files import ConfigError

from .download import NotFetched
from .hub_cache import find_hub_model, find_missing_weights
from .ollama import find_ollama_model
from .package_index import PackageWeights, build_package
from .reference import (
    CatalogReference,
    FileReference,
    FolderReference,
    HubReference,
    LocalModel,
    OllamaReference,
    Reference,
    UrlReference,
    hide_query,
    parse_reference,
)

Source = Reference | PackageWeights
"""Where the weights of a model come from."""


def find_local_model(local: LocalEngine, models_folder: Path) -> LocalModel:
    """Return the model of the local engine. Contacts nothing.

    Raises NotFetched with the command that gets the weights, or ConfigError if nothing would get them.
    """
    model = _find(parse_reference(local.model, local.chosen_engine), local, models_folder)
    if local.chosen_engine not in (None, model.engine):
        raise ConfigError(
            f"local.engine: {local.chosen_engine} does not run {local.model}, and {model.engine} does: leave the key"
            " out, and the model decides"
        )
    return model


def has_weights(card: ModelCard, models_folder: Path) -> bool:
    """Return True if what `models pull` fetches for the model is here."""
    try:
        return bool(find_local_model(LocalEngine(model=card.name), models_folder))
    except ConfigError:
        return False


def find_default_weights(models_folder: Path) -> Path:
    """Return the GGUF file of the built-in model. Raises NotFetched."""
    return find_local_model(LocalEngine(), models_folder).path


def locate_reference(local: LocalEngine) -> Source:
    """Return where the weights of the local engine's model come from."""
    return resolve_catalog(parse_reference(local.model, local.chosen_engine))


def resolve_catalog(reference: Reference) -> Source:
    """Return where the weights of a catalog's model come from, or another reference unchanged."""
    if not isinstance(reference, CatalogReference):
        return reference
    card, gguf = reference.card, reference.card.gguf
    if reference.engine == "llamacpp" and gguf is not None:
        if gguf.repository is None:
            return build_package(card)
        return parse_reference(f"hf.co/{gguf.repository}:{gguf.quantisation}")
    if reference.engine == "vllm" and card.safetensors is not None:
        return parse_reference(card.safetensors)
    engine = {"llamacpp": "llama.cpp", "vllm": "vLLM"}[reference.engine]
    raise ConfigError(f"{card.name}: the catalog knows no weights of it for {engine}")


def _find(reference: Reference, local: LocalEngine, models_folder: Path) -> LocalModel:
    text = local.model
    match resolve_catalog(reference):
        case PackageWeights() as weights:
            path = models_folder / weights.file_name
            return _require_fetched(LocalModel(reference.model_name, "llamacpp", path, text))
        case UrlReference() as url:
            return _require_fetched(
                LocalModel(url.model_name, "llamacpp", locate_url(url, models_folder), text)
            )
        case HubReference() as repository:
            model = find_hub_model(repository, local.chosen_engine, text)
            return model if reference is repository else model._replace(name=reference.model_name)
        case OllamaReference() as ollama:
            return find_ollama_model(ollama, text)
        case FolderReference() as folder:
            return _find_folder(folder, text)
        case FileReference() as file:
            return _find_file(file, text)
    raise AssertionError(reference)


def _require_fetched(model: LocalModel) -> LocalModel:
    if not model.path.is_file():
        raise NotFetched(
            f"the weights of {model.name} are not at {model.path}; fetch them with: smallfirst models pull"
            f" {shlex.quote(hide_query(model.reference))}"
        )
    return model


def _find_file(reference: FileReference, text: str) -> LocalModel:
    for path in list_parts(reference.path):
        if not path.is_file():
            raise ConfigError(f"{text}: there is no file {path}")
    if reference.engine == "llamacpp" and not _is_gguf(reference.path):
        raise ConfigError(f"{text}: is no GGUF file: it does not begin as one")
    return LocalModel(reference.model_name, reference.engine, reference.path, text)


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def _find_folder(reference: FolderReference, text: str) -> LocalModel:
    folder = reference.path
    if not folder.is_dir():
        raise ConfigError(f"{text}: there is no folder {folder}")
    if not (folder / "config.json").is_file():
        files = ", ".join(sorted(path.name for path in folder.glob("*.gguf")))
        hint = f"; it holds {files}: name the file" if files else ""
        raise ConfigError(f"{text}: {folder} has no config.json{hint}")
    if missing := find_missing_weights(folder):
        raise ConfigError(f"{text}: {folder} lacks {', '.join(missing)}, which its index names")
    return LocalModel(reference.model_name, "vllm", folder, text)


def locate_url(reference: UrlReference, models_folder: Path) -> Path:
    """Return where the file of a URL is kept: by its checksum too, as many files are named alike."""
    return models_folder / reference.sha256[:12] / reference.file_name
