"""The policies' files on disk, and whether they changed since the last load."""

from contextlib import suppress
from pathlib import Path

from policies.schema.split import AnyPolicy
from routers.judges.rubric import Rubric

from .layers import policy_files
from .loader import load_policies
from .rubric_files import FOLDER, load_rubrics
from .yaml_files import ConfigError

Stamp = tuple[int, int, int, int]
Stamps = dict[Path, Stamp | None]


class PolicyFiles:
    """Loads the built-in policies and those of a folder, if there is one.

    `stamps` holds a stamp of each file that the last load asked for, calibrators and missing files (None)
    included. Each stamp is taken before its file is read, so a file that changes during a load counts as
    changed. `rubrics` are the rubrics of the last load.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.read: Stamps = {}
        self.rubrics: dict[str, Rubric] = {}

    def load(self) -> dict[str, AnyPolicy]:
        """Load all policies and rubrics, reading each file once. Raises ConfigError."""
        self.read = {}
        contents: dict[Path, bytes] = {}

        def read(path: Path) -> bytes:
            if path not in contents:
                self.read[path] = stamp(path)
                contents[path] = path.read_bytes()
            return contents[path]

        policies = load_policies(self._folder, read)
        self.rubrics = load_rubrics(self._folder, read)
        return policies

    def look(self) -> Stamps:
        """Return what `stamps` would be after a load now, as far as that is known without loading."""
        folders = () if self._folder is None else (self._folder, self._folder / FOLDER)
        listed: list[Path] = []
        for folder in folders:
            with suppress(ConfigError):  # a missing folder holds no files
                listed += policy_files(folder)
        others = (path for path in self.read if path.parent not in folders or path.suffix != ".yaml")
        return {path: stamp(path) for path in (*listed, *others)}


def stamp(path: Path) -> Stamp | None:
    """Return a value that differs after a file was rewritten, replaced or had its permissions changed.

    None if the file does not exist. The inode's change time is part of it, since some tools restore a file's
    modification time."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
