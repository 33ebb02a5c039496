"""Runs llama.cpp's server in its own process: `python -m gateway.local.llamacpp.server`, configured on
standard input.

The supervisor runs this module. The gateway's process never imports it, so that native code stays outside.
"""

import json
import os
import sys
from http.client import HTTPConnection
from typing import Any

from .options import apply_options
from .speculation import has_speculation
from .startup_log import CHECKED, WARNING, find_warnings, has_gpu

SLOTS_TIMEOUT_S = 10.0


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
    params.speculative.draft.cpuparams.n_threads = config["threads"]
    params.speculative.draft.cpuparams_batch.n_threads = config["threads"]
    # llama.cpp loads the model twice to fit its layers to a GPU's memory. Context and slots are always given.
    params.fit_params = has_gpu(xllamacpp.get_device_info())
    params.endpoint_metrics = True
    params.ui = False
    params.verbosity = 1
    # Return pooled embeddings, or the last hidden state of each token, from which texts are scored.
    kinds = xllamacpp.llama_pooling_type
    params.embedding = True
    params.pooling_type = (
        kinds.LLAMA_POOLING_TYPE_MEAN if config["embeddings"] else kinds.LLAMA_POOLING_TYPE_NONE
    )
    # To return states, llama.cpp allocates a full batch, and its server requires equal batch sizes.
    params.n_batch = params.n_ubatch = config["batch"]
    apply_options(params, config.get("options", {}), xllamacpp)
    return params


def speculates(port: int, key: str) -> bool:
    """Return whether the slots of the server speculate. llama.cpp goes on without, if the draft model does not fit."""
    connection = HTTPConnection("127.0.0.1", port, timeout=SLOTS_TIMEOUT_S)
    connection.request("GET", "/slots", headers={"Authorization": f"Bearer {key}"})
    return all(slot["speculative"] for slot in json.load(connection.getresponse()))


def set_options(config: dict[str, Any]) -> Any:
    """Return the parameters. Exits with an error if xllamacpp refuses an option."""
    try:
        return build_parameters(config)
    except (AttributeError, KeyError, ValueError, OverflowError, RuntimeError, OSError) as error:
        sys.exit(f"error: xllamacpp refuses local.arguments {config['options']}: {error!r}")


def guess_reason(options: dict[str, Any]) -> str:
    reasons = "a damaged or unknown kind of file, or too little memory"
    return f"{reasons}, or options that do not go together: {options}" if options else reasons


def main() -> None:
    import xllamacpp

    config = json.loads(sys.stdin.readline())
    options = config["options"]
    params = set_options(config)
    for warning in find_warnings(options, xllamacpp.get_device_info):
        sys.stderr.write(f"{WARNING}{warning}\n")
    try:
        server = xllamacpp.Server(params)
    except RuntimeError:  # its text tells nothing; llama.cpp has logged what it knows
        sys.exit(f"error: llama.cpp cannot run {config['path']}: {guess_reason(options)}")
    if has_speculation(options) and not speculates(config["port"], config["key"]):
        needs = "a draft model needs the model's vocabulary, and a spec-type"
        sys.stderr.write(f"error: llama.cpp does not speculate with {options}: {needs}\n")
        os._exit(1)  # the server's threads run
    sys.stderr.write(f"{CHECKED}\n")
    # Standard input closes when the parent dies in any way: an engine must not outlive its gateway.
    while sys.stdin.readline():
        pass
    del server
    os._exit(0)


if __name__ == "__main__":
    main()
