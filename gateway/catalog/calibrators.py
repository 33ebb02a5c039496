"""Finds the calibrator of a small model: the user's own, one that ships, or the generic one."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.data_folder import data_folder
from policies.loading.regular_files import ReadFile, read_file
from policies.loading.trained_files import (
    GENERIC_CALIBRATOR,
    SHIPPED_CALIBRATORS,
    STOCK_CALIBRATOR,
    read_trained,
)
from policies.loading.yaml_files import ConfigError
from routers.confidence.calibration import UNKNOWN, Calibrator, LogprobSource

if TYPE_CHECKING:
    from gateway.upstreams.pool import Pool  # which loads the whole client of upstreams

log = logging.getLogger(__name__)

DIGEST_CHARS = 12
"""Characters of a fingerprint's digest in the name of a calibrator's file."""


class Calibrators:
    """The calibrators on this machine.

    `named` are files by the name of their model (the key `calibrators` of the settings). `folder` holds the files that
    `smallfirst calibrate` wrote; by default `calibrators` in the user's data folder.
    """

    def __init__(self, named: Mapping[str, Path] | None = None, folder: Path | None = None) -> None:
        self._named = named or {}
        self._folder = folder or data_folder() / "calibrators"

    def find(self, source: LogprobSource, read: ReadFile = read_file) -> Path:
        """Return the file of the calibrator for a small model.

        A file that the settings name for the model is returned whatever it is made for. Then the user's calibrators are
        searched, then those that ship. If none matches, the generic one is returned.
        """
        for model, path in self._named.items():
            if source.has_name(model):
                return path
        own = self.path_for(source)
        for paths in (self.list_own(), sorted(SHIPPED_CALIBRATORS.glob("*.json"))):
            matching = [path for path, made_for in _read_sources(paths, read) if made_for.matches(source)]
            if matching:
                return own if own in matching else matching[0]
        return GENERIC_CALIBRATOR

    def path_for(self, source: LogprobSource) -> Path:
        """Return the file that `smallfirst calibrate` writes for a small model."""
        digest = source.fingerprint and source.fingerprint.digest
        model = (
            re.sub(r"[^a-z0-9._-]+", "-", source.model.rsplit("/", 1)[-1].casefold()).strip("-.") or "model"
        )
        return self._folder / f"{model}.{source.engine}.{digest[:DIGEST_CHARS] if digest else 'unknown'}.json"

    def list_own(self) -> list[Path]:
        """Return the files in the user's folder."""
        return sorted(path for path in self._folder.glob("*.json") if not path.name.startswith("."))


class ServedCalibrator:
    """Finds the calibrator of the small model that is served.

    If the small models of several upstreams have not all the same calibrator, it is the generic one.
    """

    def __init__(self, calibrators: Calibrators, slm: "Pool | None") -> None:
        self._calibrators = calibrators
        self._slm = slm

    def find(self, read: ReadFile) -> Path:
        sources = {upstream.source for upstream in self._slm.writers} if self._slm is not None else ()
        paths = {self._calibrators.find(source, read) for source in sources}
        if len(paths) > 1:
            return GENERIC_CALIBRATOR
        return paths.pop() if paths else STOCK_CALIBRATOR

    def list_files(self) -> list[Path]:
        return self._calibrators.list_own()


def _read_sources(paths: Iterable[Path], read: ReadFile) -> Iterator[tuple[Path, LogprobSource]]:
    """Yield what each calibrator is made for, but for generic ones: first those that know their model's weights.

    A file that cannot be used is left out with a warning, since it may be another model's.
    """
    sources: list[tuple[Path, LogprobSource]] = []
    for path in paths:
        try:
            sources.append((path, read_trained(Calibrator, path, read).made_for))
        except (OSError, ConfigError) as error:
            log.warning("a calibrator is left out: %s", error)
    named = [(path, made_for) for path, made_for in sources if not made_for.is_generic]
    return iter(sorted(named, key=lambda item: (item[1].fingerprint or UNKNOWN).weights is None))
