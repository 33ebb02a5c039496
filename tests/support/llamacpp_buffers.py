"""Loads weights by llama.cpp as the gateway does, in a process of its own, and prints its log:
`python -m support.llamacpp_buffers '{"path": ...}'`."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

BUFFER = re.compile(r"(model|KV|compute) buffer size = +([\d.]+) MiB")
LOG_ALL = 5


def read_buffers(path: Path, context: int, slots: int, kv_type: str = "f16") -> dict[str, float]:
    """Return the sizes that llama.cpp reports, in MiB: `model` as it is mapped, `KV` and `compute`."""
    config = {"path": str(path), "context": context, "slots": slots, "kv_type": kv_type}
    command = [sys.executable, "-m", "support.llamacpp_buffers", json.dumps(config)]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"}
    result = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    sizes: dict[str, float] = {}
    for kind, size in BUFFER.findall(result.stdout):
        if kind != "model" or "model" not in sizes:  # a repacked copy follows
            sizes[kind] = float(size)
    return sizes


def load(config: dict[str, Any]) -> None:
    import xllamacpp

    from gateway.local.llamacpp.arguments import DEFAULT_BATCH
    from gateway.local.llamacpp.server import build_parameters

    rest = {"model": "x", "port": 0, "key": "x", "threads": 1, "embeddings": False, "batch": DEFAULT_BATCH}
    params = build_parameters(config | rest | {"prompt_cache_mib": 0})
    params.verbosity = LOG_ALL
    params.fit_params = params.warmup = False  # the first only logs more sizes here
    params.cache_type_k = params.cache_type_v = getattr(
        xllamacpp.ggml_type, f"GGML_TYPE_{config['kv_type'].upper()}"
    )
    xllamacpp.Server(params)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    load(json.loads(sys.argv[1]))
