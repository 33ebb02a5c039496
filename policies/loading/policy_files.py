"""The policies' files on disk, and whether they changed since the last load."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from policies.schema.split import AnyPolicy
from routers.judges.rubric import Rubric

from .layers import list_policy_files
from .loader import load_policies
from .regular_files import read_file
from .rubric_files import RUBRICS_FOLDER, load_rubrics
from .trained_files import STOCK_CALIBRATOR, StockCalibrator
from .yaml_files import ConfigError

Stamp = tuple[int, int, int, int]
Stamps = dict[Path, Stamp | None]


class PolicyFiles:
    """Loads the built-in policies and those of a folder, if there is one.

    `stock` finds the calibrator that `stock` means; without it, that is the default small model's. `stamps` holds a
    stamp of each file that the last load asked for, calibrators and missing files (None) included. Each stamp is taken
    before its file is read, so a file that changes during a load counts as changed. `rubrics` are the rubrics of the
    last load.
    """

    def __init__(self, folder: Path | None, stock: StockCalibrator | None = None) -> None:
        self._folder = folder
        self._stock = stock
        self.stamps: Stamps = {}
        self.rubrics: dict[str, Rubric] = {}

    def load(self) -> dict[str, AnyPolicy]:
        """Load all policies and rubrics, reading each file once. Raises ConfigError."""
        self.stamps = {path: read_stamp(path) for path in self._list_calibrators()}
        contents: dict[Path, bytes] = {}

        def read_once(path: Path) -> bytes:
            if path not in contents:
                self.stamps[path] = read_stamp(path)
                contents[path] = read_file(path)
            return contents[path]

        stock = STOCK_CALIBRATOR if self._stock is None else self._stock.find(read_once)
        policies = load_policies(self._folder, read_once, stock)
        self.rubrics = load_rubrics(self._folder, read_once)
        return policies

    def read_stamps(self) -> Stamps:
        """Return what `stamps` would be after a load now, as far as that is known without loading."""
        folders = () if self._folder is None else (self._folder, self._folder / RUBRICS_FOLDER)
        paths: list[Path] = []
        for folder in folders:
            with suppress(ConfigError):  # a missing folder holds no files
                paths += list_policy_files(folder)
        others = (path for path in self.stamps if path.parent not in folders or path.suffix != ".yaml")
        return {path: read_stamp(path) for path in (*paths, *others, *self._list_calibrators())}

    def _list_calibrators(self) -> Iterable[Path]:
        """Return the files of which one may be the stock calibrator after a load, so that a new one is seen."""
        return () if self._stock is None else self._stock.list_files()


def read_stamp(path: Path) -> Stamp | None:
    """Return a value that differs after a file was rewritten, replaced or had its permissions changed.

    None if the file does not exist. The inode's change time is part of it, since some tools restore a file's
    modification time."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
