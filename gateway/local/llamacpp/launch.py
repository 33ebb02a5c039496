"""How llama.cpp is started for a model, and what it can do."""

import sys
from pathlib import Path

from gateway.local.settings import LocalEngine
from gateway.local.sizing.choice import Sizing
from gateway.local.supervision.child_process import inherit_environment
from gateway.local.supervision.supervisor import LaunchSpec
from gateway.upstreams.capabilities import Capabilities
from gateway.upstreams.providers.server_kind import Scorer
from gateway.upstreams.settings import UpstreamSettings
from gateway.upstreams.transport.address import build_probe

from . import hidden_states as states
from .arguments import choose_batch
from .startup_log import StartupLog

MIN_PROMPT_CACHE_MIB = 64
"""Least size of llama.cpp's cache of earlier prompts. It may grow to the size of the key-value cache."""


def build_capabilities(local: LocalEngine) -> Capabilities:
    """Return the capabilities to declare.

    During speculative decoding llama.cpp returns 0 as the log-probability of each drafted token.
    """
    return Capabilities(embeddings=local.embeddings, logprobs=False if local.speculates else None)


def build_scorer(local: LocalEngine, weights: Path) -> Scorer | None:
    """Return a scorer by hidden states, or None for the default of the kind.

    With embeddings on, llama.cpp returns pooled states instead of one per token.
    """
    return None if local.embeddings else states.build_scorer(weights, choose_batch(local.options))


def build_launch(sizing: Sizing, upstream: UpstreamSettings, key: str, weights: Path) -> LaunchSpec:
    local = sizing.local
    startup_log = StartupLog()
    return LaunchSpec(
        "llama.cpp",
        [sys.executable, "-m", "gateway.local.llamacpp.server"],
        {
            "path": str(weights),
            "model": upstream.model,
            "port": upstream.url.port,
            "key": key,
            "slots": local.slots,
            "context": local.context,
            "threads": local.threads,
            "prompt_cache_mib": max(MIN_PROMPT_CACHE_MIB, sizing.kv_cache_bytes >> 20),
            "embeddings": local.embeddings,
            "batch": choose_batch(local.options),
            "options": local.options,
        },
        build_probe(upstream).url,
        environment=inherit_environment(),
        warm_up=startup_log.wait_until_checked,
        parse_stage=startup_log.parse_line,
    )
