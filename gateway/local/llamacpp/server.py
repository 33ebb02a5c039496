"""llama.cpp's server in a process of its own: `python -m gateway.local.llamacpp.server`, configured on standard input.

Run by the supervisor, never imported by the gateway's process: the wheel's native code stays outside it.
"""

import json
import os
import sys
from typing import Any


def parameters(config: dict[str, Any]) -> Any:
    """xllamacpp's CommonParams from the supervisor's configuration."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = config["path"]
    params.model_alias = [config["model"]]
    params.port = config["port"]
    params.reuse_port = True
    params.api_keys = [config["key"]]
    params.n_parallel = config["slots"]
    # llama.cpp divides its context among the slots.
    params.n_ctx = config["context"] * config["slots"]
    params.cpuparams.n_threads = config["threads"]
    params.cpuparams_batch.n_threads = config["threads"]
    params.endpoint_metrics = True
    params.ui = False
    params.verbosity = 0
    # Embeddings, or each token's last hidden state, from which a text's log-probabilities are told.
    kinds = xllamacpp.llama_pooling_type
    params.embedding = True
    params.pooling_type = (
        kinds.LLAMA_POOLING_TYPE_MEAN if config["embeddings"] else kinds.LLAMA_POOLING_TYPE_NONE
    )
    # What it may compute at once, it allocates when it gives states; its server wants both alike then.
    params.n_batch = params.n_ubatch = config["batch"]
    return params


def main() -> None:
    import xllamacpp

    config = json.loads(sys.stdin.readline())
    server = xllamacpp.Server(parameters(config))
    # Standard input ends when the parent does, however it died: an engine must not outlive its gateway.
    while sys.stdin.readline():
        pass
    del server
    os._exit(0)


if __name__ == "__main__":
    main()
