"""Clients' suites, pinned in tests/clients/suites/*.txt, each in an environment of its own in the user's cache folder.

An environment sees the packages of another one, so that what is large or there already is not installed twice.
"""

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

import platformdirs

SUITES = Path(__file__).parents[1] / "clients" / "suites"


class NotInstalled(Exception):
    """The text says why."""


def install(name: str, sees: str = sys.executable) -> Path:
    """Return the folder of commands of an environment with the packages pinned in `name`.txt.

    `sees` is the Python whose packages it sees. Raises NotInstalled.
    """
    pinned = SUITES / f"{name}.txt"
    recipe = hashlib.sha256(pinned.read_bytes() + sees.encode()).hexdigest()
    folder = Path(platformdirs.user_cache_dir("smallfirst")) / f"{name}-{recipe[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _build(folder / "environment", pinned, sees)
            (folder / "complete").touch()
    return folder / "environment" / "bin"


def _build(environment: Path, pinned: Path, sees: str) -> None:
    _run(sys.executable, "-m", "venv", "--clear", str(environment))
    python = str(environment / "bin" / "python")
    _run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", str(pinned))
    (_packages(python) / "seen.pth").write_text(f"{_packages(sees)}\n", encoding="utf-8")


def _packages(python: str) -> Path:
    return Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotInstalled(f"{' '.join(command[:4])} failed: {done.stderr.strip()[-300:]}")
    return done.stdout
