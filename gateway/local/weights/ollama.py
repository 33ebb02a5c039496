"""Finds models in the store of an Ollama on this machine.

A manifest names a model's layers by their digests, and the blobs are files named after these:
https://github.com/ollama/ollama/blob/main/docs/import.md and server/manifest.go there.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from policies.loading.yaml_files import ConfigError

from .reference import LocalModel, OllamaReference

REGISTRY = "registry.ollama.ai"
MODEL_LAYER = "application/vnd.ollama.image.model"
UNSUPPORTED_LAYERS = {
    "application/vnd.ollama.image.adapter": "a LoRA adapter",
    "application/vnd.ollama.image.tensor": "single tensors instead of a GGUF file",
}
SERVICE_STORE = Path("/usr/share/ollama/.ollama/models")
"""Where Ollama's installer for Linux keeps models, as it runs as a user of its own."""


def list_stores() -> list[Path]:
    """Return the folders that may be Ollama's store: OLLAMA_MODELS alone, if it is set."""
    if configured := os.environ.get("OLLAMA_MODELS"):
        return [Path(configured).expanduser()]
    return [Path("~/.ollama/models").expanduser(), SERVICE_STORE]


def find_ollama_model(reference: OllamaReference, text: str) -> LocalModel:
    """Return the model's GGUF file in the store. Raises ConfigError with what is there."""
    for store in list_stores():
        manifest = store / "manifests" / _manifest_path(reference)
        try:
            content = manifest.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfigError(f"{text}: {manifest}: {error.strerror}") from error
        return LocalModel(reference.model_name, "llamacpp", _find_blob(store, content, text), text)
    stores = " or ".join(map(str, list_stores()))
    there = ", ".join(sorted(f"ollama/{name}" for store in list_stores() for name in _list_models(store)))
    raise ConfigError(
        f"{text} is not in Ollama's store at {stores} (OLLAMA_MODELS names another), which holds"
        f" {there or 'no model'}; fetch it with: ollama pull {text.removeprefix('ollama/')}"
    )


def _manifest_path(reference: OllamaReference) -> Path:
    """`llama3.2` is in the namespace `library` of Ollama's own registry; three parts name a registry too."""
    parts = reference.name.split("/")
    prefix = {1: (REGISTRY, "library"), 2: (REGISTRY,)}.get(len(parts), ())
    return Path(*prefix, *parts, reference.tag)


def _find_blob(store: Path, content: bytes, text: str) -> Path:
    layers = _read_layers(content, text)
    for layer in layers:
        if what := UNSUPPORTED_LAYERS.get(str(layer.get("mediaType"))):
            raise ConfigError(
                f"{text} consists of {what}, which is not supported: name a GGUF file or repository"
            )
    digests = [str(layer.get("digest")) for layer in layers if layer.get("mediaType") == MODEL_LAYER]
    if len(digests) != 1:
        raise ConfigError(f"{text} consists of {len(digests)} model files, and one is expected")
    algorithm, _, digest = digests[0].partition(":")
    blob = store / "blobs" / f"{algorithm}-{Path(digest).name}"
    if not blob.is_file() or not os.access(blob, os.R_OK):
        raise ConfigError(f"{text}: {blob} is missing or can't be read; fetch it again with `ollama pull`")
    return blob


def _read_layers(content: bytes, text: str) -> list[dict[str, Any]]:
    try:
        return [layer for layer in orjson.loads(content)["layers"] if isinstance(layer, dict)]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ConfigError(f"{text}: its manifest in Ollama's store can't be read") from error


def _list_models(store: Path) -> Iterator[str]:
    manifests = store / "manifests"
    for path in manifests.rglob("*"):
        if path.is_file():
            *parts, tag = path.relative_to(manifests).parts
            name = "/".join(parts).removeprefix(f"{REGISTRY}/").removeprefix("library/")
            yield name if tag == "latest" else f"{name}:{tag}"
