"""What this machine has for a model: memory and cores, as far as a container lets it."""

import os
import subprocess
from pathlib import Path
from typing import Literal, NamedTuple

COMMAND_TIMEOUT_S = 30.0
"""Maximum seconds for the command that queries the GPU's memory."""
CONTROL_GROUP = Path("/sys/fs/cgroup")
"""Where Linux says what a container may use."""


class Machine(NamedTuple):
    """What an engine has for its model."""

    memory_bytes: int
    cores: int
    is_gpu: bool = False
    """Whether the memory is a GPU's."""
    beside_bytes: int = 0
    """Memory of a GPU beside this machine's, which llama.cpp fills too if its build can."""

    @property
    def name(self) -> str:
        if self.beside_bytes:
            return "this machine with its GPU"
        return "the GPU" if self.is_gpu else "this machine"

    @property
    def max_bytes(self) -> int:
        return self.memory_bytes + self.beside_bytes


def read_machine(engine: Literal["llamacpp", "vllm"]) -> Machine:
    """Return what an engine has: for vLLM the largest GPU's memory alone if there is one."""
    gpu = read_gpu_memory()
    if engine == "vllm" and gpu is not None:
        return Machine(gpu, count_cores(), is_gpu=True)
    return Machine(read_memory(), count_cores(), beside_bytes=gpu or 0)


def read_memory(groups: Path = CONTROL_GROUP) -> int:
    """Return the bytes of this machine's memory, or of a container's share."""
    import psutil

    total = int(psutil.virtual_memory().total)
    limit = _read_words(groups / "memory.max")
    return min(total, int(limit[0])) if limit and limit[0].isdecimal() else total


def read_gpu_memory() -> int | None:
    """Return the bytes of the largest GPU's memory; None if there is no GPU of NVIDIA."""
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(
            query, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True
        ).stdout
        return max(int(line) for line in output.split()) * 2**20
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def count_cores(groups: Path = CONTROL_GROUP) -> int:
    """Return the number of cores that this process may use, at least 1."""
    has_affinity = hasattr(os, "sched_getaffinity")  # Linux only
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    match _read_words(groups / "cpu.max"):
        case [quota, period] if quota.isdecimal() and period.isdecimal() and int(period):
            return max(1, min(cores, int(quota) // int(period)))
    return cores


def _read_words(path: Path) -> list[str]:
    """Return the words of a file; none if there is no such file."""
    try:
        return path.read_text().split()
    except OSError:
        return []
