"""From the reference of a model to its weights on this machine, which are fetched if they are absent."""

import shlex
from pathlib import Path

from gateway.local.models.card import ModelCard
from gateway.local.models.catalog import find_gguf_name
from gateway.local.models.geometry import Geometry, card_geometry
from gateway.local.models.gguf import list_parts
from gateway.local.settings import LocalEngine
from gateway.local.sizing.fit import Model
from gateway.local.vllm.preflight import find_python
from policies.loading.yaml_files import ConfigError

from . import hub
from .download import (
    FetchFailed,
    NotFetched,
    RemoteFile,
    Report,
    count_missing_bytes,
    download_file,
    explain_disk,
    explain_failures,
    format_bytes,
)
from .hub_cache import (
    choose_engine,
    choose_gguf,
    find_hub_model,
    find_missing_weights,
    find_repository_folder,
)
from .ollama import find_ollama_model
from .package_index import PackageWeights, build_package, fetch_weights
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
from .space import check_space

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


def fetch_local_model(local: LocalEngine, models_folder: Path, report: Report) -> LocalModel:
    """Return the model of the local engine, and download it first if it is absent.

    Checks before the download that disk, memory and context suffice. `report` gets lines about the progress. Raises
    ConfigError, which is FetchFailed if the download failed.
    """
    try:
        return find_local_model(local, models_folder)
    except NotFetched:
        return pull_local_model(local, models_folder, report)


def pull_local_model(local: LocalEngine, models_folder: Path, report: Report) -> LocalModel:
    """Bring the model up to date with where it comes from, and return it. Raises as `fetch_local_model`."""
    reference = parse_reference(local.model, local.chosen_engine)
    match _resolve_catalog(reference):
        case PackageWeights() as weights:
            _pull_package(weights, models_folder, local, report)
        case UrlReference() as url:
            _pull_url(url, models_folder, local, report)
        case HubReference() as repository:
            text = local.model if isinstance(reference, HubReference) else str(repository)
            with hub.explain_hub_failures(text, repository):
                _pull_repository(repository, text, local, report)
        case _:
            pass  # nothing fetches it
    return find_local_model(local, models_folder)


def locate_reference(local: LocalEngine) -> Source:
    """Return where the weights of the local engine's model come from."""
    return _resolve_catalog(parse_reference(local.model, local.chosen_engine))


def _resolve_catalog(reference: Reference) -> Source:
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
    match _resolve_catalog(reference):
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


def _pull_package(weights: PackageWeights, folder: Path, local: LocalEngine, report: Report) -> None:
    if not (folder / weights.file_name).is_file():
        package_and_file = 2 * weights.bytes
        check_space(Model(weights.name, weights.bytes), package_and_file, folder, local)
    try:
        fetch_weights(weights, folder, report)
    except OSError as error:
        raise FetchFailed(explain_disk(weights.name, error)) from error


def _pull_url(reference: UrlReference, models_folder: Path, local: LocalEngine, report: Report) -> None:
    path = locate_url(reference, models_folder)
    with explain_failures(reference.file_name, reference.server, reference.server):
        size = None if path.is_file() else _read_size(reference.url)
        if size is not None:
            model = Model(reference.model_name, size)
            check_space(model, count_missing_bytes(size, path), models_folder, local)
        report(f"fetching {reference.file_name}" + (f" ({format_bytes(size)})" if size else ""))
        download_file(RemoteFile(reference.url, reference.file_name, reference.sha256, size), path, report)
    report(f"{path}: checksum right")


def _read_size(url: str) -> int | None:
    """Return a file's bytes by its server's word, or None if it does not tell: some servers allow GET alone."""
    from huggingface_hub.utils import get_session

    response = get_session().head(url, headers={"Accept-Encoding": "identity"}, timeout=hub.TIMEOUT_S)
    length = "" if response.is_error else response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _pull_repository(reference: HubReference, text: str, local: LocalEngine, report: Report) -> None:
    repository = hub.read_repository(reference)
    names = [*repository.files]
    engine = choose_engine(reference, names, local.chosen_engine)
    if engine == "llamacpp":
        weights = choose_gguf(reference, names)
        files, context = [*weights.files], repository.gguf_context
    else:
        _require_vllm(reference, local)
        files = hub.list_checkpoint(names)
        if not files or "config.json" not in files:
            raise FetchFailed(f"{text} has no safetensors with a config.json, and no engine here runs it")
        context = hub.read_checkpoint_context(repository, report)
    total = sum(file.size for file in repository.select(files))
    missing = hub.count_bytes_to_fetch(repository, files)
    model = Model(text, total, _find_geometry(local), context)
    check_space(model, missing, find_repository_folder(reference.repository), local.run_by(engine))
    licence = repository.licence or "not stated"
    report(f"{text}: {format_bytes(total)}, licence: {licence}, {hub.find_endpoint()}/{reference.repository}")
    folder = hub.fetch_files(repository, files, report)
    report(f"{folder}: " + ("up to date" if not missing else "checksums right"))


def _find_geometry(local: LocalEngine) -> Geometry | None:
    """Return the geometry of a model of the catalog, or None if it is not known before the download."""
    match parse_reference(local.model, local.chosen_engine):
        case CatalogReference(card) if not card.encoder_layers:
            return card_geometry(card)
    return None


def _require_vllm(reference: HubReference, local: LocalEngine) -> None:
    """Raise ConfigError if vLLM is not here. The error ends with how llama.cpp runs the model, if that can be found."""
    try:
        find_python(local)
    except ConfigError as error:
        gguf = find_gguf_name(reference.repository) or hub.find_gguf_repository(reference)
        if gguf is None:
            raise
        raise ConfigError(f"{error}. llama.cpp runs it here: smallfirst serve --slm {gguf}") from error
