"""Says whether a model's weights are on this machine."""

from pathlib import Path

from .card import ModelCard


def has_weights(card: ModelCard, models_folder: Path) -> bool:
    """Return True if the file that `models pull` fetches for the model is in the folder."""
    if card.gguf is None or card.gguf.member is None:
        return False
    return (models_folder / card.gguf.member.rpartition("/")[2]).is_file()
