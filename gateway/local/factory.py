"""Builds the upstream of the configured local engine, and the supervisor that keeps it running."""

import os
import secrets
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import orjson
from pydantic import HttpUrl, SecretStr

from gateway.upstreams.capabilities import Capabilities
from gateway.upstreams.providers.kind import Scorer
from gateway.upstreams.settings import Limits, UpstreamSettings
from gateway.upstreams.transport.address import headers_of, probe_of, urls_of
from gateway.upstreams.transport.http11 import HttpTransport
from gateway.upstreams.upstream import Upstream

from .llamacpp import hidden_states as states
from .model_catalog import find
from .settings import LOCAL, LocalEngine
from .supervisor import Launch, Supervisor, reserve_port
from .vllm.arguments import command_of, environment_of, inherited, model_name
from .vllm.preflight import check_vllm
from .vllm.startup import stage_of

KEEPER = Path(__file__).with_name("vllm") / "keeper.py"

ENDING = 15.0
"""Seconds for vLLM to exit on its own."""

WARMING = 600.0
"""Maximum seconds for vLLM's first answer, which may include compilation."""


def as_upstream(local: LocalEngine, port: int, key: str = "") -> UpstreamSettings:
    """Return the upstream settings of the engine. It is not probed, as its supervisor knows its health."""
    return UpstreamSettings(
        name=LOCAL,
        tier="slm",
        url=HttpUrl(f"http://127.0.0.1:{port}/v1"),
        model=_name(local),
        engine=local.engine,
        adapters=tuple(local.adapters),
        key=SecretStr(key),
        priority=local.priority,
        weight=local.weight,
        context=local.context,
        capabilities=_capabilities(local),
        probe=0.0,
        price=local.price,
        limits=Limits(in_flight=local.at_once, queued=local.queued, retries=0),
    )


def _name(local: LocalEngine) -> str:
    if local.engine == "vllm":
        return model_name(local)
    return Path(local.model).stem if local.model.endswith(".gguf") else local.model


def _capabilities(local: LocalEngine) -> Capabilities:
    """Return the capabilities to declare. vLLM rejects `min_p` and `logit_bias` during speculative
    decoding."""
    if local.speculative is not None:
        return Capabilities(min_p=False, logit_bias=False)
    return Capabilities(embeddings=local.embeddings)


def check_local(local: LocalEngine, models_folder: Path) -> Path:
    """Return the path of llama.cpp's weights, or of the Python that has vLLM.

    Raises ConfigError if the engine cannot start.
    """
    if local.engine == "llamacpp":
        return find(local.model, models_folder)
    command_of(local, port=1)
    return check_vllm(local)


def local_engine(
    local: LocalEngine, models_folder: Path, on_restart: Callable[[], None], tell: Callable[[str], None]
) -> tuple[Upstream, Supervisor]:
    """Build the engine's upstream and supervisor. Raises ConfigError if the weights or the engine are
    missing."""
    found = check_local(local, models_folder)
    # vLLM's server binds with SO_REUSEADDR, llama.cpp's with SO_REUSEPORT.
    holder, port = reserve_port(socket.SO_REUSEADDR if local.engine == "vllm" else socket.SO_REUSEPORT)
    key = secrets.token_urlsafe(24)
    described = as_upstream(local, port, key)
    upstream = Upstream(described, scorer=_scorer(local, found))
    launch = (_vllm if local.engine == "vllm" else _llamacpp)(local, described, key, found)
    supervisor = Supervisor(
        launch, port_holder=holder, on_running=upstream.set_running, on_restart=on_restart, tell=tell
    )
    upstream.set_running(False)
    return upstream, supervisor


def _scorer(local: LocalEngine, weights: Path) -> Scorer | None:
    """Return a scorer by hidden states, or None for the default of the kind.

    With embeddings on, llama.cpp returns pooled states instead of one per token.
    """
    if local.engine == "llamacpp" and not local.embeddings:
        return states.scorer(weights)
    return None


def _llamacpp(local: LocalEngine, upstream: UpstreamSettings, key: str, weights: Path) -> Launch:
    return Launch(
        "llama.cpp",
        [sys.executable, "-m", "gateway.local.llamacpp.server"],
        {
            "path": str(weights),
            "model": upstream.model,
            "port": upstream.url.port,
            "key": key,
            "slots": local.at_once,
            "context": local.context,
            "threads": local.threads or max(1, (os.cpu_count() or 2) // 2),
            "embeddings": local.embeddings,
            "batch": states.WINDOW,
        },
        probe_of(upstream).url,
        environment=inherited(),
    )


def _vllm(local: LocalEngine, upstream: UpstreamSettings, key: str, python: Path) -> Launch:
    port = upstream.url.port or 0
    return Launch(
        "vLLM",
        [str(python), "-I", str(KEEPER)],
        {
            "command": command_of(local, port),
            "environment": environment_of(local),
            "key": key,
            "patience": ENDING,
        },
        probe_of(upstream).url,
        environment=inherited(),
        warm_up=partial(_warm_up, upstream),
        stage_of=stage_of,
        patience=ENDING + 5.0,  # by then the keeper has killed the rest itself
    )


async def _warm_up(upstream: UpstreamSettings) -> None:
    """Request two tokens, since the first answer takes many times as long as later ones. Any answer, an error
    too, counts as warm. Raises TransportError."""
    url = urls_of(upstream)["completions"]
    body = orjson.dumps({"model": upstream.model, "prompt": "Hello", "max_tokens": 2})
    client = HttpTransport(url, headers_of(upstream), connect=5.0, gap=WARMING, keep_alive=False)
    try:
        response = await client.post(url, body, WARMING)
        await response.read()
    finally:
        await client.close()
