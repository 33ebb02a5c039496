"""Says which files of a model `models rm` would delete, and deletes them: never a file that was not fetched."""

import os
from pathlib import Path
from typing import NamedTuple

from gateway.local.models.gguf import list_parts
from policies.loading.yaml_files import ConfigError

from .hub_cache import find_repository_folder
from .reference import FileReference, FolderReference, HubReference, LocalModel, OllamaReference
from .resolution import Source


class Removal(NamedTuple):
    """What is deleted with a model."""

    files: tuple[Path, ...]
    """Files and links, the contents last."""
    bytes: int
    root: Path
    """The folder in which all of them lie. Folders in it that are left empty are deleted too."""


def plan_removal(model: LocalModel, reference: Source, models_folder: Path) -> Removal:
    """Return what to delete. Raises ConfigError for files that Smallfirst has not fetched."""
    if isinstance(reference, HubReference):
        return _plan_hub_removal(model, find_repository_folder(reference.repository))
    if isinstance(reference, OllamaReference):
        raise ConfigError(f"{model.reference} is Ollama's: delete it with: ollama rm {model.reference[7:]}")
    is_ours = models_folder.resolve() in model.path.resolve().parents
    if not is_ours or isinstance(reference, FolderReference):
        raise ConfigError(
            f"{model.path} is yours, and was not fetched: only what was fetched is deleted here"
        )
    files = tuple(list_parts(model.path)) if isinstance(reference, FileReference) else (model.path,)
    return Removal(files, _sum_bytes(files), models_folder)


def _plan_hub_removal(model: LocalModel, repository: Path) -> Removal:
    """Delete the revision's links to the model's files, and the contents to which no other revision has a link."""
    snapshot = next(
        each for each in (repository / "snapshots").iterdir() if each in (model.path, *model.path.parents)
    )
    links = list_parts(model.path) if model.engine == "llamacpp" else _list_links(snapshot)
    kept = {os.path.realpath(link) for link in _list_links(repository / "snapshots") if link not in links}
    if not kept:  # nothing else of the repository is here
        files = tuple(path for path in repository.rglob("*") if not path.is_dir() or path.is_symlink())
        return Removal(files, _sum_bytes(files), repository.parent)
    blobs = {Path(os.path.realpath(link)) for link in links if os.path.realpath(link) not in kept}
    inside = sorted(blob for blob in blobs - {*links} if blob.is_relative_to(repository.resolve()))
    return Removal((*links, *inside), _sum_bytes((*links, *inside)), repository.parent)


def _list_links(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() or path.is_symlink()]


def _sum_bytes(files: tuple[Path, ...]) -> int:
    return sum(path.lstat().st_size for path in files)


def delete_files(removal: Removal) -> None:
    """Delete the files, and the folders that are then empty. Raises OSError."""
    for path in removal.files:
        path.unlink(missing_ok=True)
        path.with_name(f".{path.name}.lock").unlink(missing_ok=True)
    for path in removal.files:
        for folder in path.parents[: len(path.relative_to(removal.root).parts) - 1]:
            if not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()
