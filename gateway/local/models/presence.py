"""Says whether a model's weights are on this machine."""

from pathlib import Path

from gateway.local.settings import LocalEngine
from gateway.local.weights.resolution import find_local_model
from policies.loading.yaml_files import ConfigError

from .card import ModelCard


def has_weights(card: ModelCard, models_folder: Path) -> bool:
    """Return True if what `models pull` fetches for the model is here."""
    try:
        return bool(find_local_model(LocalEngine(model=card.name), models_folder))
    except ConfigError:
        return False
