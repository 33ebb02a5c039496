"""The folder in which the gateway keeps the user's models, calibrators and what it has measured of them."""

from pathlib import Path

import platformdirs


def data_folder() -> Path:
    """Return the user's data folder; on Linux `~/.local/share/smallfirst`."""
    return Path(platformdirs.user_data_dir("smallfirst"))
