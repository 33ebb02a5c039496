"""Runs llama.cpp's server in its own process: `python -m gateway.local.llamacpp.server`, configured on
standard input.

The supervisor runs this module. The gateway's process never imports it, so that native code stays outside.
"""

import json
import os
import sys
from typing import Any


def build_parameters(config: dict[str, Any]) -> Any:
    """Return xllamacpp's CommonParams for the supervisor's configuration."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = config["path"]
    params.model_alias = [config["model"]]
    params.port = config["port"]
    params.reuse_port = True
    params.api_keys = [config["key"]]
    params.n_parallel = config["slots"]
    # llama.cpp divides its context among the slots. If they shared it and it were full, all requests would fail.
    params.kv_unified = False
    params.n_ctx = config["context"] * config["slots"]
    # Conversations that have lost their slot stay here, by default in up to 8 GiB.
    params.cache_ram_mib = config["prompt_cache_mib"]
    params.cpuparams.n_threads = config["threads"]
    params.cpuparams_batch.n_threads = config["threads"]
    params.endpoint_metrics = True
    params.ui = False
    params.verbosity = 0
    # Return pooled embeddings, or the last hidden state of each token, from which texts are scored.
    kinds = xllamacpp.llama_pooling_type
    params.embedding = True
    params.pooling_type = (
        kinds.LLAMA_POOLING_TYPE_MEAN if config["embeddings"] else kinds.LLAMA_POOLING_TYPE_NONE
    )
    # To return states, llama.cpp allocates a full batch, and its server requires equal batch sizes.
    params.n_batch = params.n_ubatch = config["batch"]
    return params


def main() -> None:
    import xllamacpp

    config = json.loads(sys.stdin.readline())
    try:
        server = xllamacpp.Server(build_parameters(config))
    except RuntimeError:  # its text tells nothing; llama.cpp has logged what it knows
        path = config["path"]
        sys.exit(
            f"error: llama.cpp cannot run {path}: a damaged or unknown kind of file, or too little memory"
        )
    # Standard input closes when the parent dies in any way: an engine must not outlive its gateway.
    while sys.stdin.readline():
        pass
    del server
    os._exit(0)


if __name__ == "__main__":
    main()
