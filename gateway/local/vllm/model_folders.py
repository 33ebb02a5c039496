"""Checks that the folders of models and adapters exist, before vLLM takes their paths for names on Hugging Face."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gateway.local.model_names import is_path
from gateway.local.settings import LocalEngine
from policies.loading.yaml_files import ConfigError

MODEL_FILES = ("config.json", "params.json")
"""What a model's folder holds, the latter in Mistral's own format."""
ADAPTER_FILES = ("adapter_config.json",)


class Place(NamedTuple):
    """A model that the settings name under `key`. Its folder holds one of `files`."""

    key: str
    model: str
    files: tuple[str, ...]


def check_paths(local: LocalEngine) -> None:
    """Raise ConfigError for the first path that does not exist, or that is no model's."""
    for place in _list_places(local):
        if is_path(place.model) and (problem := _find_problem(place)):
            raise ConfigError(f"{place.key}: {problem}")


def find_doubtful_names(local: LocalEngine) -> Iterator[str]:
    """Yield a warning per name on Hugging Face that may have been meant as a path: its first part is a folder here."""
    for place in _list_places(local):
        first, slash, _ = place.model.partition("/")
        if slash and not is_path(place.model) and Path(first).is_dir():
            yield (
                f"{place.key}: there is no folder {place.model}, so this is taken for a name on Hugging Face;"
                f" if a folder is meant, write ./{place.model}"
            )


def _list_places(local: LocalEngine) -> Iterator[Place]:
    yield Place("local.model", local.model, MODEL_FILES)
    if local.speculative is not None and local.speculative.model is not None:
        yield Place("local.speculative.model", local.speculative.model, MODEL_FILES)
    for name, where in local.adapters.items():
        yield Place(f"local.adapters.{name}", where, ADAPTER_FILES)


def _find_problem(place: Place) -> str | None:
    path = Path(place.model).expanduser()
    if path.suffix == ".gguf":
        return None if path.is_file() else f"there is no file {path}"
    if not path.is_dir():
        return f"there is no folder {path}; a model of Hugging Face is named OWNER/NAME"
    if not any((path / name).is_file() for name in place.files):
        return f"the folder {path} holds no {' or '.join(place.files)}"
    return None
