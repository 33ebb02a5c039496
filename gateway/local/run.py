"""The configured local engine as an upstream, and the supervisor that keeps it running."""

import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import HttpUrl, SecretStr

from gateway.settings import LOCAL, Limits, LocalEngine, Settings, UpstreamSettings
from gateway.upstreams.capabilities import Capabilities
from gateway.upstreams.upstream import Upstream

from .catalog import find
from .supervisor import Supervisor, reserve_port


def as_upstream(local: LocalEngine, port: int, key: str = "") -> UpstreamSettings:
    """The engine as one more upstream, whose health its supervisor knows."""
    return UpstreamSettings(
        name=LOCAL,
        tier="slm",
        url=HttpUrl(f"http://127.0.0.1:{port}/v1"),
        model=Path(local.model).stem if local.model.endswith(".gguf") else local.model,
        engine=local.engine,
        key=SecretStr(key),
        priority=local.priority,
        weight=local.weight,
        context=local.context,
        capabilities=Capabilities(embeddings=local.embeddings),
        probe=0.0,
        price=local.price,
        limits=Limits(in_flight=local.slots, queued=local.queued, retries=0),
    )


def local_engine(
    settings: Settings, local: LocalEngine, on_restart: Callable[[], None]
) -> tuple[Upstream, Supervisor]:
    """Raises ConfigError where the weights are missing."""
    path = find(local.model, settings.models_folder)
    holder, port = reserve_port()
    key = secrets.token_urlsafe(24)
    upstream = Upstream(as_upstream(local, port, key))
    supervisor = Supervisor(
        "llama.cpp",
        [sys.executable, "-m", "gateway.local.llamacpp"],
        {
            "path": str(path),
            "model": upstream.model,
            "port": port,
            "key": key,
            "slots": local.slots,
            "context": local.context,
            "threads": local.threads or max(1, (os.cpu_count() or 2) // 2),
            "embeddings": local.embeddings,
        },
        f"http://127.0.0.1:{port}/health",
        port_holder=holder,
        on_running=upstream.set_running,
        on_restart=on_restart,
    )
    upstream.set_running(False)
    return upstream, supervisor
