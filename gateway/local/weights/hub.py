"""Fetches models from Hugging Face, or from the hub that HF_ENDPOINT names, into the cache of `huggingface_hub`.

`huggingface_hub` reads the token and the hub's address, lists the repository, and lays out the cache. Large files are
put into that cache by `download_file`, which resumes them and checks their sha256; `huggingface_hub` finds them there.
"""

import fnmatch
import glob
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from .download import RemoteFile, Report, count_missing_bytes, download_file, explain_failures
from .hub_cache import find_repository_folder
from .reference import HubReference

TIMEOUT_S = 15.0
"""Maximum seconds to wait for the hub's answer about a repository."""

CHECKPOINT_FILES = ("*.json", "*.jinja", "*.model", "*.tiktoken", "*.txt", "*.py")
"""Beside the weights: configuration, tokenizer, chat template, and code of models that have their own."""

CONVERTERS = ("ggml-org", "unsloth", "bartowski", "lmstudio-community")
"""Accounts that publish GGUF files of others' models under the model's name."""


class RepositoryFile(NamedTuple):
    """A file of a repository. `sha256` is known of large files only, which the hub keeps in LFS."""

    name: str
    size: int
    sha256: str | None


class Repository(NamedTuple):
    """What the hub says of a repository at one commit."""

    reference: HubReference
    commit: str
    files: dict[str, RepositoryFile]
    licence: str | None
    gguf_context: int | None
    """Tokens of context of its GGUF files, if the hub has read them."""

    def select(self, names: Iterable[str]) -> list[RepositoryFile]:
        return [self.files[name] for name in names]


def explain_hub_failures(text: str, reference: HubReference) -> Any:
    """Return a context in which what `huggingface_hub` raises becomes a FetchFailed of one sentence."""
    hub = find_endpoint()
    return explain_failures(text, hub, f"{hub}/{reference.repository}", "; HF_ENDPOINT names a mirror")


def find_endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def read_repository(reference: HubReference) -> Repository:
    """Ask the hub for the repository's files. Raises what `huggingface_hub` raises."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(
        reference.repository, revision=reference.revision, files_metadata=True, timeout=TIMEOUT_S
    )
    files = {
        file.rfilename: RepositoryFile(
            file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs is not None else None
        )
        for file in info.siblings or ()
    }
    licences = [tag.partition(":")[2] for tag in info.tags or () if tag.startswith("license:")]
    context = (info.gguf or {}).get("context_length")
    return Repository(reference, info.sha or "", files, next(iter(licences), None), context)


def list_checkpoint(names: Iterable[str]) -> list[str]:
    """Return the files of a repository that vLLM needs: safetensors, or else PyTorch's weights; not both, and no copies
    in folders or in another layout."""
    top = sorted(name for name in names if "/" not in name)
    for pattern in ("model*.safetensors", "*.safetensors", "pytorch_model*.bin", "*.bin"):
        if weights := fnmatch.filter(top, pattern):
            others = [name for each in CHECKPOINT_FILES for name in fnmatch.filter(top, each)]
            return [*weights, *dict.fromkeys(others)]
    return []


def read_checkpoint_context(repository: Repository, report: Report) -> int | None:
    """Return the tokens of context that the repository's config.json names, or None if it names none."""
    if "config.json" not in repository.files:
        return None
    config = orjson.loads((fetch_files(repository, ["config.json"], report) / "config.json").read_bytes())
    text = config.get("text_config", config) if isinstance(config, dict) else {}
    limit = text.get("max_position_embeddings")
    return limit if isinstance(limit, int) else None


def count_bytes_to_fetch(repository: Repository, names: Sequence[str]) -> int:
    """Return how many bytes of these files are not in the cache."""
    return sum(
        count_missing_bytes(file.size, _find_blob(repository, file)) for file in repository.select(names)
    )


def fetch_files(repository: Repository, names: Sequence[str], report: Report) -> Path:
    """Download the files that are not in the cache, and return the folder of their revision."""
    from huggingface_hub import snapshot_download

    for file in repository.select(names):
        if file.sha256 is not None:
            download_file(_locate(repository, file), _find_blob(repository, file), report)
    _silence_progress()
    return Path(
        snapshot_download(
            repository.reference.repository,
            revision=repository.reference.revision,
            allow_patterns=[glob.escape(name) for name in names],
        )
    )


def _find_blob(repository: Repository, file: RepositoryFile) -> Path:
    """Return where the cache keeps a file's content: by its sha256, or by git's hash, which is not known here."""
    blobs = find_repository_folder(repository.reference.repository) / "blobs"
    return blobs / (file.sha256 or f"unknown-{file.name}")


def _locate(repository: Repository, file: RepositoryFile) -> RemoteFile:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(repository.reference.repository, file.name, revision=repository.commit)
    return RemoteFile(url, file.name, file.sha256 or "", file.size, build_hf_headers())


def _silence_progress() -> None:
    """Turn off the library's own bars, unless its environment variable asks for them."""
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars

    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        disable_progress_bars()


def find_gguf_repository(reference: HubReference) -> str | None:
    """Return a repository with GGUF files of a model, by the name that such repositories have, or None."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    owner, _, name = reference.repository.rpartition("/")
    for account in (owner, *CONVERTERS):
        try:
            info = HfApi().model_info(f"{account}/{name}-GGUF", timeout=TIMEOUT_S)
        except HfHubHTTPError:
            continue
        if any(file.rfilename.endswith(".gguf") for file in info.siblings or ()):
            return str(info.id)
    return None
