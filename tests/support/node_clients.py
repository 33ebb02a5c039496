"""Client libraries of Node.js, pinned by a `package-lock.json` and installed once in the user's cache folder."""

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from support.waiting import soon

PACKAGES = Path(__file__).parents[1] / "clients" / "node"
INSTALL_S = 300.0
RUN_S = 120.0


class NotInstalled(Exception):
    """The text says why."""


def require_node_clients(name: str) -> Path:
    """Return the folder that has the packages of `name` in `node_modules`. Skip the test if they cannot be had."""
    try:
        return _install(name)
    except NotInstalled as why:
        pytest.skip(str(why))


def _install(name: str) -> Path:
    for command in ("node", "npm"):
        if shutil.which(command) is None:
            raise NotInstalled(f"{command} is not on the PATH")
    files = [PACKAGES / name / file for file in ("package.json", "package-lock.json")]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    folder = Path(platformdirs.user_cache_dir("smallfirst")) / f"node-{name}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock"):
        if not (folder / "complete").exists():
            for file in files:
                shutil.copy(file, folder)
            _run_npm(folder)
            (folder / "complete").touch()
    return folder


def _run_npm(folder: Path) -> None:
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"npm ci took more than {INSTALL_S:.0f} s") from None
    if done.returncode:
        raise NotInstalled(f"npm ci failed: {done.stderr.strip()[:300]}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


async def run_script(packages: Path, work: Path, name: str, **options: Any) -> Any:
    """Run a script of tests/clients/node with Node.js, and return the JSON of its last line. `work` is an empty folder.

    The script finds `options` as JSON in its first argument.
    """
    script = Path(shutil.copy(PACKAGES / name, work))
    (work / "node_modules").symlink_to(packages / "node_modules")
    output = await run_command("node", str(script), json.dumps(options), cwd=work)
    return json.loads(output.splitlines()[-1])


async def run_command(*command: str, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command without input, and return what it prints. It must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await soon(process.communicate(), RUN_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return output.decode()
