"""Recognises the stages of vLLM's start in its log."""

import re

from gateway.local.supervision.start_progress import Stage

FIRST_STAGE = Stage("importing vLLM", "10 s to a minute")
"""Before vLLM logs anything."""

_STAGES = (
    (
        Stage("downloading", "as long as the network needs"),
        re.compile(r"Fetching \d+ files|Downloading|Reconstructing"),
    ),
    (
        Stage("compiling", "one to three minutes; enforce-eager skips it"),
        re.compile(r"Dynamo bytecode|torch\.compile takes|Compiling a graph|Start compiling", re.I),
    ),
    (
        Stage("capturing graphs", "up to a minute"),
        re.compile(r"Capturing (CUDA|cudagraph)|Graph capturing", re.I),
    ),
    (Stage("making the cache"), re.compile(r"KV cache size|# GPU blocks|Available KV cache memory")),
    (
        Stage("loading the weights", "seconds per GB, from a slow disk minutes"),
        re.compile(r"Starting to load model|Loading \S+ checkpoint shards"),
    ),
    (
        Stage("starting the engine", "10 to 30 s, on a CPU a minute"),
        re.compile(r"Initializing a V\d LLM engine"),
    ),
    (
        Stage("starting the engine's process", "10 to 30 s, on a CPU a minute"),
        re.compile(r"API server version|non-default args"),
    ),
    (
        Stage("warming up", "a few seconds, on a CPU half a minute"),
        re.compile(r"Application startup complete"),
    ),
)


def parse_stage(line: str) -> Stage | None:
    """Return the stage of the start that a line of vLLM's log announces, or None."""
    return next((stage for stage, announced in _STAGES if announced.search(line)), None)
