"""How vLLM is started for a model, and what it can do."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from gateway.local.settings import LocalEngine
from gateway.local.sizing.choice import Sizing
from gateway.local.supervision.child_process import inherit_environment
from gateway.local.supervision.supervisor import LaunchSpec
from gateway.upstreams.capabilities import Capabilities
from gateway.upstreams.settings import UpstreamSettings
from gateway.upstreams.transport.address import build_headers, build_probe, build_urls
from gateway.upstreams.transport.http_client import HttpTransport

from .arguments import build_command, build_environment
from .preflight import find_python
from .startup_stages import FIRST_STAGE, parse_stage
from .tool_parsers import choose_tool_parser

KEEPER_SCRIPT = Path(__file__).with_name("subreaper.py")

EXIT_TIMEOUT_S = 15.0
"""Seconds for vLLM to exit on its own."""

WARM_UP_TIMEOUT_S = 600.0
"""Maximum seconds for vLLM's first answer, which may include compilation."""

WARM_UP_REQUESTS: tuple[dict[str, Any], ...] = (
    {"prompt": "Hello", "max_tokens": 2},
    {"prompt": "Hello", "max_tokens": 1, "prompt_logprobs": 1},  # as drafts are verified and texts are scored
)
REPETITION: dict[str, Any] = {"prompt": "one two " * 8, "max_tokens": 16, "temperature": 0.0}
"""A request whose answer probably repeats its prompt, so that an engine that speculates drafts and verifies."""


def build_capabilities(local: LocalEngine) -> Capabilities:
    """Return the capabilities to declare.

    During speculative decoding vLLM rejects `min_p` and `logit_bias`. Without a parser it rejects tools.
    """
    speculates = False if local.speculates else None
    tools = None if choose_tool_parser(local) else False
    return Capabilities(embeddings=False, tools=tools, min_p=speculates, logit_bias=speculates)


def build_launch(sizing: Sizing, upstream: UpstreamSettings, key: str, weights: Path) -> LaunchSpec:
    local = sizing.local
    return LaunchSpec(
        "vLLM",
        [str(find_python(local)), "-I", str(KEEPER_SCRIPT)],
        {
            "command": build_command(local, upstream.url.port or 0, weights),
            "environment": build_environment(local),
            "key": key,
            "patience": EXIT_TIMEOUT_S,
        },
        build_probe(upstream).url,
        environment=inherit_environment(),
        warm_up=partial(_warm_up, upstream, speculates=local.speculates),
        first_stage=FIRST_STAGE,
        parse_stage=parse_stage,
        exit_timeout_s=EXIT_TIMEOUT_S + 5.0,  # by then the keeper has killed the rest itself
    )


async def _warm_up(upstream: UpstreamSettings, *, speculates: bool) -> None:
    """Take each way that requests take through the engine once, since the first time takes many times as long as later
    ones. Any answer, an error too, counts as warm. Raises TransportError."""
    for request in (*WARM_UP_REQUESTS, *([REPETITION] if speculates else [])):
        await _request_completion(upstream, request)


async def _request_completion(upstream: UpstreamSettings, request: Mapping[str, Any]) -> None:
    url = build_urls(upstream)["completions"]
    body = orjson.dumps({"model": upstream.model, **request})
    client = HttpTransport(url, build_headers(upstream), connect=5.0, gap=WARM_UP_TIMEOUT_S, keep_alive=False)
    try:
        response = await client.post(url, body, WARM_UP_TIMEOUT_S)
        await response.read()
    finally:
        await client.close()
