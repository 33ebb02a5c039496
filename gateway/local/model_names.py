"""Tells paths of models from names on Hugging Face, and derives a readable name from a path."""

import re
from pathlib import Path

from .models.gguf import split_name

MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:@+/-]*$"
"""What the name of a local model may consist of."""

_PATH = re.compile(r"^(?:[/~.]|[A-Za-z]:[\\/])|[\\/]$|/.*/|\\|\.gguf$")
"""An absolute path, one that begins with a dot or a tilde, one that ends in a slash or has several, or a GGUF file. A
name on Hugging Face is one word, or an owner and a word."""
_REFERENCE = re.compile(r"^(?:\w+://|(?:hf\.co|huggingface\.co|ollama)/)")
"""A URL, or a name at a place that is named first."""
_HUB_FOLDER = re.compile(r"^models--(?P<repository>.+)$")
"""A repository's folder in the cache of Hugging Face: its slash is written as two dashes."""


def is_path(model: str) -> bool:
    """Return whether a model is given by a path, which may not exist. Otherwise it is a name."""
    return not _REFERENCE.match(model) and (bool(_PATH.search(model)) or Path(model).is_dir())


def derive_model_name(model: str) -> str:
    """Return the name of a model that has none of its own: of a path the folder's name, or the file's without its
    extension; a name stays as it is."""
    if not is_path(model):
        return model
    path = Path(model).expanduser()
    if path.suffix == ".gguf":
        return _to_readable(split_name(path.name)[0])
    path = path.resolve()
    hub_folder = _HUB_FOLDER.match(path.parents[1].name) if path.parent.name == "snapshots" else None
    return hub_folder["repository"].replace("--", "/") if hub_folder else _to_readable(path.name)


def _to_readable(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._:@+-]+", "-", name).lstrip("-._:@+").rstrip("-") or "model"
