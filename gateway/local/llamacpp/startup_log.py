"""What llama.cpp's process writes for the gateway while it starts, and how the gateway reads it."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gateway.local.supervision.start_progress import Stage

from .speculation import has_speculation

WARNING = "warning: "
CHECKED = "checked: the engine does what it was asked to"
"""The line after which the engine may be used. Its health page answers before that."""
NO_LOGPROBS = "it speculates, so policies that judge its drafts by log-probabilities are not served"
GPU_OPTIONS = ("n-gpu-layers", "spec-draft-ngl")


def find_warnings(options: Mapping[str, Any], list_devices: Callable[[], Iterable[Any]]) -> list[str]:
    """Return what the options do not bring, or cost.

    `list_devices` returns xllamacpp's devices. It is called only if it matters, since it takes time on a GPU.
    """
    speculation = [NO_LOGPROBS] if has_speculation(options) else []
    # llama.cpp's own parser of options warns of layers too, but xllamacpp does not run it.
    on_gpu = [name for name in GPU_OPTIONS if options.get(name, 0) not in (0, "auto")]
    if not on_gpu or has_gpu(list_devices()):
        return speculation
    return [*speculation, *(f"no usable GPU found: {name} is ignored" for name in on_gpu)]


def has_gpu(devices: Iterable[Any]) -> bool:
    """Return whether one of xllamacpp's devices is not the CPU."""
    return any(device["type"].name != "GGML_BACKEND_DEVICE_TYPE_CPU" for device in devices)


class StartupLog:
    """Reads the lines of one engine's log."""

    def __init__(self) -> None:
        self._checked = asyncio.Event()

    def parse_line(self, line: str) -> Stage | None:
        """Return the warning in a line of the log, to be shown as a stage, or None."""
        if CHECKED in line:  # something else may have been written without an end of line
            self._checked.set()
        return Stage(line.removeprefix(WARNING)) if line.startswith(WARNING) else None

    async def wait_until_checked(self) -> None:
        """Return once the engine's process has found that the engine does what it was asked to."""
        await self._checked.wait()
