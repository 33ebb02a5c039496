"""Prepares a local engine: finds its model, checks that it can start, and chooses what the settings leave open."""

from pathlib import Path
from typing import NamedTuple

from policies.loading.yaml_files import ConfigError

from .llamacpp.arguments import find_missing_file, parse_arguments
from .settings import LocalEngine
from .sizing.choice import Sizing, size_engine
from .vllm.arguments import build_command
from .vllm.preflight import check_vllm
from .weights.reference import LocalModel
from .weights.resolution import find_local_model


class PreparedEngine(NamedTuple):
    """An engine that can start: its model on this machine, and settings with nothing left open."""

    model: LocalModel
    sizing: Sizing


def prepare_engine(local: LocalEngine, models_folder: Path) -> PreparedEngine:
    """Raise ConfigError if the model or the engine is missing, or if the model does not fit. Contacts nothing."""
    model = check_local(local, models_folder)
    local = locate_draft(adopt_model(local, model), models_folder)
    return PreparedEngine(model, size_engine(local, model.path))


def check_local(local: LocalEngine, models_folder: Path) -> LocalModel:
    """Return the model on this machine. Contacts nothing. Raises ConfigError if its engine cannot start, NotFetched if
    it only has to be fetched."""
    if local.chosen_engine == "vllm":  # even if the weights are not here
        _check_vllm(local)
    if local.engine == "llamacpp":
        _check_llamacpp(local, models_folder)
    model = find_local_model(local, models_folder)
    if model.engine == "vllm" and local.chosen_engine != "vllm":
        _check_vllm(local.run_by("vllm"))
    return model


def adopt_model(local: LocalEngine, model: LocalModel) -> LocalEngine:
    """Return the settings with the engine and the name of a model that has been found. Before, the reference alone
    tells the name, which lacks the quantisation that a repository turned out to have."""
    return local.run_by(model.engine).model_copy(update={"name": local.name or model.name})


def locate_draft(local: LocalEngine, models_folder: Path) -> LocalEngine:
    """Return the settings with the path of llama.cpp's draft model. Raises ConfigError if there is no such file."""
    if local.engine != "llamacpp" or local.speculative is None or local.speculative.model is None:
        return local
    try:
        draft = LocalEngine(engine="llamacpp", model=local.speculative.model)
        path = find_local_model(draft, models_folder).path
    except ConfigError as error:
        raise ConfigError(
            f"local.speculative.model: {local.speculative.model!r} is no GGUF file here"
        ) from error
    speculative = local.speculative.model_copy(update={"model": str(path)})
    return local.model_copy(update={"speculative": speculative})


def _check_llamacpp(local: LocalEngine, models_folder: Path) -> None:
    locate_draft(local, models_folder)
    if problem := find_missing_file(parse_arguments(local.arguments)):
        raise ConfigError(f"local.{problem}")


def _check_vllm(local: LocalEngine) -> None:
    build_command(local, port=1)
    check_vllm(local)
