"""smallfirst models pull: downloads the weights of a local model."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.output import ConfigOption, err, fail
from gateway.local.model_catalog import CATALOG, DEFAULT_WEIGHTS, PullFailed
from gateway.local.model_catalog import fetch_weights as pull_weights
from gateway.settings import default_config_path, load_settings
from policies.loading.yaml_files import ConfigError


def pull(
    model: Annotated[
        str, typer.Argument(help="A name that `smallfirst models list` shows.")
    ] = DEFAULT_WEIGHTS.name,
    config: ConfigOption = None,
) -> None:
    """Fetch a model's weights and check them."""
    weights = CATALOG.get(model)
    if weights is None:
        fail(f"{model!r} is not known; there are: {', '.join(CATALOG)}")
    try:
        pull_weights(weights, _find_models_folder(config), lambda line: err.print(line, markup=False))
    except PullFailed as error:
        fail(error, 1)


def _find_models_folder(config: Path | None) -> Path:
    try:
        return load_settings(config or default_config_path()).models_folder
    except ConfigError as error:
        fail(error)
