"""Checks before a download that the disk, the memory and the model's context suffice."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from gateway.local.settings import LocalEngine

from .download import FetchFailed, format_bytes

COMMAND_TIMEOUT_S = 30.0
"""Maximum seconds for the command that queries the GPU's memory."""

DISK_RESERVE_BYTES = 64 * 2**20
"""Bytes of the disk that a download leaves free: records, logs and other programs need some."""

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Holds a container's limit on memory in bytes, or `max`."""

MEMORY_SAVING_ARGUMENTS = frozenset({"quantization", "cpu-offload-gb", "load-format", "tensor-parallel-size"})
"""vLLM's arguments with which the memory of the weights differs from the size of their files."""


class ModelSize(NamedTuple):
    """What is known of a model before it is downloaded."""

    name: str
    missing_bytes: int
    """Bytes to download."""
    weights_bytes: int
    context_limit: int | None = None
    """Tokens that the model was made for, if known."""


def check_space(size: ModelSize, folder: Path, local: LocalEngine) -> None:
    """Check that a model fits on the disk of `folder` and into memory, and has the context that is asked of it. Raises
    FetchFailed."""
    _check_disk(size, folder)
    _check_context(size, local)
    check_memory(size.name, estimate_memory_bytes(size, local), local)


def estimate_memory_bytes(size: ModelSize, local: LocalEngine) -> int:
    """Return the least memory in bytes that the engine needs for the model: its weights."""
    return size.weights_bytes


def _check_disk(size: ModelSize, folder: Path) -> None:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = max(shutil.disk_usage(existing).free - DISK_RESERVE_BYTES, 0)
    if size.missing_bytes > free:
        raise FetchFailed(
            f"{size.name}: {format_bytes(size.missing_bytes)} are to be downloaded, and the disk of {existing} has"
            f" {format_bytes(free)} to spare; free some space, or set HF_HOME or models_folder to another disk"
        )


def _check_context(size: ModelSize, local: LocalEngine) -> None:
    if any("rope" in name for name in local.arguments):  # it changes what the model can read
        return
    if size.context_limit is not None and (local.context or 0) > size.context_limit:
        raise FetchFailed(
            f"local.context: {local.context} tokens, and {size.name} was made for {size.context_limit}; set"
            f" local.context: {size.context_limit}, or less"
        )


def check_memory(name: str, needed: int, local: LocalEngine) -> None:
    """Check that a model fits into memory. Raises FetchFailed.

    The check uses the total memory, not the free one, as other processes may exit before the engine needs it.
    """
    if MEMORY_SAVING_ARGUMENTS & {key.replace("_", "-") for key in local.arguments}:
        return
    device, memory_bytes = read_memory(local)
    if needed > memory_bytes:
        raise FetchFailed(
            f"{name}: the weights take {needed / 1e9:.1f} GB, and {device} has {memory_bytes / 1e9:.1f} GB; take a"
            " smaller quantisation or model"
        )


def read_memory(local: LocalEngine) -> tuple[str, int]:
    """Return the device that the weights must fit in and its memory in bytes.

    vLLM uses the largest GPU, or this machine if there is none. llama.cpp divides a model between both.
    """
    gpu, machine = _read_gpu_memory(), _read_machine_memory()
    if local.engine == "vllm" and gpu:
        return "the GPU", gpu
    return ("this machine with its GPU", machine + gpu) if gpu else ("this machine", machine)


def _read_gpu_memory() -> int:
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(
            query, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True
        ).stdout
        return max(int(line) for line in output.split()) * 2**20
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0


def _read_machine_memory() -> int:
    """Return the bytes of this machine's memory, or of the container's share."""
    import psutil

    total = int(psutil.virtual_memory().total)
    try:
        return min(total, int(CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # no container, or no limit
        return total
