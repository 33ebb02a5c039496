"""Warnings at the start of llama.cpp: the engine's process prints them, and the gateway reads them from its log."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

PREFIX = "warning: "
GPU_OPTIONS = ("n-gpu-layers", "spec-draft-ngl")


def find_warnings(options: Mapping[str, Any], list_devices: Callable[[], Iterable[Any]]) -> list[str]:
    """Return the warnings of llama.cpp's own parser of options, which xllamacpp does not run.

    `list_devices` returns xllamacpp's devices. It is called only if it matters, since it takes time on a GPU.
    """
    on_gpu = [name for name in GPU_OPTIONS if options.get(name, 0) not in (0, "auto")]
    if not on_gpu or any(device["type"].name != "GGML_BACKEND_DEVICE_TYPE_CPU" for device in list_devices()):
        return []
    return [f"no usable GPU found: {name} is ignored" for name in on_gpu]


def parse_warning(line: str) -> str | None:
    """Return the warning in a line of the log, or None."""
    return line.removeprefix(PREFIX) if line.startswith(PREFIX) else None
