"""Parses the reference of a model: what `--slm`, `models pull` and `local.model` may name."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from gateway.local.model_names import derive_model_name
from gateway.local.models.card import LocalEngineKind, ModelCard
from gateway.local.models.catalog import ModelCatalog, find_card
from gateway.upstreams.transport.hosts import is_loopback_host
from policies.loading.yaml_files import ConfigError

from .quantisations import DEFAULT_QUANTISATION

FORMS = (
    "a name that `smallfirst models list` shows, user/repo-GGUF:QUANT or hf.co/user/repo at a hub, an https URL of a"
    " .gguf file, ollama/NAME, a .gguf file, or a folder with a config.json"
)
HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")

_REPOSITORY = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(?::(?P<quantisation>[\w.-]+))?", re.ASCII)
_REPOSITORY_PAGE = re.compile(
    r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(?::(?P<quantisation>[\w.-]+))?"
    r"(?:/(?:resolve|blob|tree)/(?P<revision>\w[\w.-]*)(?:/(?P<file>.+))?)?/?",
    re.ASCII,
)
_BARE_NAME = re.compile(r"\w[\w.-]*", re.ASCII)
_OLLAMA = re.compile(r"(?P<name>\w[\w.-]*(?:/\w[\w.-]*)*)(?::(?P<tag>\w[\w.-]*))?", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class CatalogReference:
    """A model that the catalog knows."""

    card: ModelCard
    engine: LocalEngineKind = "llamacpp"

    @property
    def model_name(self) -> str:
        return self.card.name


@dataclass(frozen=True, slots=True)
class HubReference:
    """A repository at Hugging Face, or at the hub that HF_ENDPOINT names."""

    repository: str
    quantisation: str | None = None
    revision: str = "main"
    file: str | None = None

    @property
    def wants_gguf(self) -> bool:
        """Whether the reference alone says that GGUF files are meant."""
        return bool(self.quantisation or self.file) or self.repository.lower().endswith("-gguf")

    @property
    def engine(self) -> LocalEngineKind:
        return "llamacpp" if self.wants_gguf else "vllm"

    @property
    def model_name(self) -> str:
        """The name as far as the reference tells it. The quantisation is the default one if it names none."""
        if not self.wants_gguf:
            return self.repository
        if self.file is not None:
            return PurePosixPath(self.file).stem
        return self.name_quantised(self.quantisation or DEFAULT_QUANTISATION)

    def name_quantised(self, quantisation: str) -> str:
        """Return the name of the model in a quantisation, as GGUF files are named by convention:
        `Qwen2.5-1.5B-Instruct-Q4_K_M`."""
        name = re.sub(r"[-_.]gguf$", "", self.repository.rpartition("/")[2], flags=re.IGNORECASE)
        return f"{name}-{quantisation}"

    def __str__(self) -> str:
        if self.file is not None:
            return f"https://huggingface.co/{self.repository}/resolve/{self.revision}/{self.file}"
        if self.revision != "main":
            return f"https://huggingface.co/{self.repository}/tree/{self.revision}"
        prefix = "" if self.repository.lower().endswith("-gguf") or not self.quantisation else "hf.co/"
        return f"{prefix}{self.repository}" + (f":{self.quantisation}" if self.quantisation else "")


@dataclass(frozen=True, slots=True)
class UrlReference:
    """A GGUF file at any web server, with its checksum."""

    url: str
    sha256: str
    engine: LocalEngineKind = "llamacpp"

    @property
    def server(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def file_name(self) -> str:
        return unquote(urlsplit(self.url).path).rpartition("/")[2]

    @property
    def model_name(self) -> str:
        return derive_model_name(f"/{self.file_name}")


@dataclass(frozen=True, slots=True)
class FileReference:
    """A GGUF file on this machine."""

    path: Path
    engine: LocalEngineKind = "llamacpp"

    @property
    def model_name(self) -> str:
        return derive_model_name(str(self.path.absolute()))


@dataclass(frozen=True, slots=True)
class FolderReference:
    """A folder on this machine with a `config.json`."""

    path: Path
    engine: LocalEngineKind = "vllm"

    @property
    def model_name(self) -> str:
        return derive_model_name(str(self.path.absolute()))


@dataclass(frozen=True, slots=True)
class OllamaReference:
    """A model in the store of an Ollama on this machine."""

    name: str
    tag: str = "latest"
    engine: LocalEngineKind = "llamacpp"

    @property
    def model_name(self) -> str:
        name = self.name.rpartition("/")[2]
        return name if self.tag == "latest" else f"{name}-{self.tag}"


class LocalModel(NamedTuple):
    """A model on this machine."""

    name: str
    """Its name in requests, metrics and calibrators."""
    engine: LocalEngineKind
    path: Path
    """A GGUF file, the first part of a split one, or a folder with a `config.json`."""
    reference: str
    """As the user wrote it."""


Reference = CatalogReference | HubReference | UrlReference | FileReference | FolderReference | OllamaReference


def parse_reference(text: str, engine: LocalEngineKind | None = None) -> Reference:
    """Parse a reference. `engine` is the one that the user has chosen, if any: vLLM's models may have no slash.

    Raises ConfigError with what may be named.
    """
    if card := find_card(text):
        return CatalogReference(card, engine or card.engine)
    if text.startswith("ollama/"):
        return _parse_ollama(text)
    if "://" in text:
        return _parse_url(text)
    host, _, path = text.partition("/")
    if host.casefold() in HUB_HOSTS:
        return _parse_hub_page(text, path)
    if names_path(text, Path()):
        return _parse_path(text, engine)
    if match := _REPOSITORY.fullmatch(text):
        return HubReference(match["repository"], match["quantisation"])
    if engine == "vllm" and _BARE_NAME.fullmatch(text):
        return HubReference(text)
    raise ConfigError(_explain_unknown(text))


def names_path(text: str, folder: Path) -> bool:
    """Return whether a reference names a file or folder. A relative one is meant from `folder`. Raises ConfigError for
    a `~name` of no user here."""
    if not text or "://" in text or find_card(text) is not None:
        return False
    host = text.partition("/")[0].casefold()
    if host in HUB_HOSTS or (host == "ollama" and "/" in text):
        return False
    return (
        text.endswith(".gguf")
        or text.startswith(("/", "./", "../", "~"))
        or _is_folder(folder / expand_home(text))
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long
        return False


def expand_home(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except (RuntimeError, ValueError) as error:  # a `~name` of no user here, or of none anywhere
        raise ConfigError(f"{path}: {error}") from error


def _parse_path(text: str, engine: LocalEngineKind | None) -> FileReference | FolderReference:
    path = expand_home(text)
    if path.suffix == ".gguf" and not path.is_dir():
        return FileReference(path, engine or "llamacpp")
    return FolderReference(path)


def _parse_ollama(text: str) -> OllamaReference:
    match = _OLLAMA.fullmatch(text.removeprefix("ollama/"))
    if match is None:
        raise ConfigError(f"{text!r}: expected ollama/NAME or ollama/NAME:TAG, as `ollama list` shows them")
    return OllamaReference(match["name"], match["tag"] or "latest")


def _parse_url(text: str) -> HubReference | UrlReference:
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise ConfigError(f"{hide_query(text)}: {error}") from error
    if parts.username or parts.password:
        raise ConfigError(
            "a model's URL must not hold a name or password: a server with a login is no source here"
        )
    hub_host = urlsplit(os.environ.get("HF_ENDPOINT", "")).netloc
    if parts.hostname in HUB_HOSTS or (hub_host and parts.netloc == hub_host):
        return _parse_hub_page(text, unquote(parts.path.lstrip("/")))
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback_host(parts.hostname or ""))
    if not is_safe or not parts.path.endswith(".gguf"):
        raise ConfigError(
            f"{hide_query(text)}: expected an https URL that ends in .gguf, with #sha256=… after it"
        )
    key, _, sha256 = parts.fragment.partition("=")
    if key != "sha256" or not _SHA256.fullmatch(sha256.lower()):
        raise ConfigError(
            f"{hide_query(text)}: its checksum is missing: add #sha256= and the 64 hexadecimal digits that the"
            " publisher states, or --sha256 with them"
        )
    return UrlReference(text.partition("#")[0], sha256.lower())


def _parse_hub_page(text: str, path: str) -> HubReference:
    """Parse what follows the hub's host: a repository, or the address of its page, of a revision or of a file."""
    match = _REPOSITORY_PAGE.fullmatch(path)
    if match is None or (match["file"] and not match["file"].endswith(".gguf")):
        raise ConfigError(
            f"{hide_query(text)}: expected hf.co/user/repo, hf.co/user/repo:QUANT, or a .gguf file there"
        )
    reference = HubReference(match["repository"], match["quantisation"])
    return replace(reference, revision=match["revision"] or "main", file=match["file"])


def add_sha256(text: str, sha256: str | None) -> str:
    """Return the reference with the checksum of the command line."""
    return text if sha256 is None else f"{text.partition('#')[0]}#sha256={sha256}"


def hide_query(url: str) -> str:
    """Return a reference without the query of its URL, which may hold a secret."""
    return re.sub(r"\?[^#]*", "?…", url) if "://" in url else url


def _explain_unknown(text: str) -> str:
    near = ModelCatalog.load().suggest(text)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{text!r} names no model: {hint}expected {FORMS}"
