"""Checks before a download that the disk, the memory and the model's context suffice."""

import shutil
from pathlib import Path

from gateway.local.settings import LocalEngine
from gateway.local.sizing.choice import choose_sizes
from gateway.local.sizing.fit import Model
from gateway.local.sizing.machine import read_machine
from policies.loading.yaml_files import ConfigError

from .download import FetchFailed, format_bytes

DISK_RESERVE_BYTES = 64 * 2**20
"""Bytes of the disk that a download leaves free: records, logs and other programs need some."""


def check_space(model: Model, missing_bytes: int, folder: Path, local: LocalEngine) -> None:
    """Check that what is to be downloaded fits on the disk of `folder`, and that the model would start: it is the check
    before a start. Raises FetchFailed."""
    _check_disk(model.name, missing_bytes, folder)
    try:
        choose_sizes(local, model, read_machine(local.engine))
    except ConfigError as error:
        raise FetchFailed(str(error)) from error


def _check_disk(name: str, missing_bytes: int, folder: Path) -> None:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = max(shutil.disk_usage(existing).free - DISK_RESERVE_BYTES, 0)
    if missing_bytes > free:
        raise FetchFailed(
            f"{name}: {format_bytes(missing_bytes)} are to be downloaded, and the disk of {existing} has"
            f" {format_bytes(free)} to spare; free some space, or set HF_HOME or models_folder to another disk"
        )
