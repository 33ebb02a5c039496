"""Recognises the stages of vLLM's start in its log."""

import re

_STAGES = (
    ("downloading", re.compile(r"Fetching \d+ files|Downloading|Reconstructing")),
    (
        "compiling",
        re.compile(r"Dynamo bytecode|torch\.compile takes|Compiling a graph|Start compiling", re.I),
    ),
    ("capturing graphs", re.compile(r"Capturing (CUDA|cudagraph)|Graph capturing", re.I)),
    ("making the cache", re.compile(r"KV cache size|# GPU blocks|Available KV cache memory")),
    ("loading the weights", re.compile(r"Starting to load model|Loading \S+ checkpoint shards")),
    ("starting the engine", re.compile(r"Initializing a V\d LLM engine")),
    ("warming up", re.compile(r"Application startup complete")),
)


def parse_stage(line: str) -> str | None:
    """Return the stage of the start that a line of vLLM's log announces, or None."""
    return next((stage for stage, announced in _STAGES if announced.search(line)), None)
