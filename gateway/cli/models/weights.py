"""smallfirst models pull and rm: fetches the weights of local models, and deletes them."""

from typing import Annotated

import typer

from gateway.cli.output import ConfigOption, err, fail, out
from gateway.cli.policies.loading import load_settings_or_fail
from gateway.local.settings import LocalEngine, select_local_engine
from gateway.local.weights.download import FetchFailed, format_bytes
from gateway.local.weights.fetching import pull_local_model
from gateway.local.weights.package_index import DEFAULT_WEIGHTS
from gateway.local.weights.reference import add_sha256
from gateway.local.weights.removal import delete_files, plan_removal
from gateway.local.weights.resolution import find_local_model, locate_reference
from gateway.settings import Settings
from policies.loading.yaml_files import ConfigError

MODEL_HELP = (
    "A name that `smallfirst models list` shows, user/repo-GGUF:QUANT, hf.co/user/repo, an https URL of a .gguf file,"
    " ollama/NAME, a file or a folder."
)
Sha256Option = Annotated[
    str | None,
    typer.Option("--sha256", help="The checksum of the file, if the model is given by an https URL."),
]


def pull(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)] = DEFAULT_WEIGHTS.name,
    sha256: Sha256Option = None,
    config: ConfigOption = None,
) -> None:
    """Fetch a model's weights and check them."""
    settings = load_settings_or_fail(config)
    try:
        local = _select_model(add_sha256(model, sha256), settings)
        found = pull_local_model(local, settings.models_folder, lambda line: err.print(line, markup=False))
    except KeyboardInterrupt:
        fail("stopped; what has arrived is kept, and the same command goes on from there", 130)
    except FetchFailed as error:
        fail(error, 1)
    except ConfigError as error:
        fail(error)
    out.print(f"{found.name}  {found.path}", markup=False)


def remove(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    config: ConfigOption = None,
) -> None:
    """Delete a model's weights that were fetched; says what it would delete, and asks first."""
    settings = load_settings_or_fail(config)
    try:
        local = _select_model(model, settings)
        found = find_local_model(local, settings.models_folder)
        removal = plan_removal(found, locate_reference(local), settings.models_folder)
    except ConfigError as error:
        fail(error)
    for path in removal.files:
        out.print(f"{path}", markup=False)
    size = format_bytes(removal.bytes)
    if not yes and not typer.confirm(f"Delete these {len(removal.files)} files, {size}?", err=True):
        fail("nothing was deleted", 1)
    try:
        delete_files(removal)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", 1)
    err.print(f"deleted {found.name}, {size}", markup=False)


def _select_model(model: str, settings: Settings) -> LocalEngine:
    """Return the configured engine's settings for a model: with them it is checked whether the model fits."""
    if settings.local is not None and settings.local.model == model:
        return settings.local
    return select_local_engine(model, settings.local)
