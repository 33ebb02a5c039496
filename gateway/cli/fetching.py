"""Fetches the model of the local engine for commands that run it."""

from gateway.cli.output import err
from gateway.local.weights.fetching import fetch_local_model
from gateway.settings import Settings


def fetch_model(settings: Settings) -> Settings:
    """Fetch the local engine's model if it is absent, and return the settings with the engine that runs it. Raises
    ConfigError."""
    if settings.local is None:
        return settings
    model = fetch_local_model(
        settings.local, settings.models_folder, lambda line: err.print(line, markup=False)
    )
    return settings.model_copy(update={"local": settings.local.run_by(model.engine)})
