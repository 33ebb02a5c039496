"""The policies' files as things that change: what a load has read, and whether it still is what is there."""

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
    """The built-in policies and those of a folder, where there is one.

    `read` holds a stamp of each file that the last load asked for, calibrators and files that were not there (None)
    included, taken before it was read: a file that changes while it is loaded counts as changed since. `rubrics` are
    those of the last load.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.read: Stamps = {}
        self.rubrics: dict[str, Rubric] = {}

    def load(self) -> dict[str, AnyPolicy]:
        """Reads each file once, however many policies extend it. Raises ConfigError."""
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
        """What `read` would be after a load now, as far as that can be said without one."""
        folders = () if self._folder is None else (self._folder, self._folder / FOLDER)
        listed: list[Path] = []
        for folder in folders:
            with suppress(ConfigError):  # a folder that is gone holds nothing
                listed += policy_files(folder)
        others = (path for path in self.read if path.parent not in folders or path.suffix != ".yaml")
        return {path: stamp(path) for path in (*listed, *others)}


def stamp(path: Path) -> Stamp | None:
    """What differs once a file was written in place, replaced, or let be read; None where it is not there. The
    time of the inode's change is in it for tools that restore a file's own time."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
