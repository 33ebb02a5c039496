"""The configured local engine as an upstream, and the supervisor that keeps it running."""

import os
import secrets
import sys
from collections.abc import Callable

from pydantic import HttpUrl, SecretStr

from gateway.settings import Limits, LocalEngine, Settings, UpstreamSettings
from gateway.upstreams.upstream import Upstream

from .catalog import find
from .supervisor import Supervisor, reserve_port


def local_engine(
    settings: Settings, local: LocalEngine, on_restart: Callable[[], None]
) -> tuple[Upstream, Supervisor]:
    """Raises ConfigError where the weights are missing."""
    path = find(local.model, settings.models_folder)
    holder, port = reserve_port()
    key = secrets.token_urlsafe(24)
    name = local.model if not local.model.endswith(".gguf") else path.stem
    upstream = Upstream(
        UpstreamSettings(
            name="local",
            tier="slm",
            url=HttpUrl(f"http://127.0.0.1:{port}/v1"),
            model=name,
            engine=local.engine,
            key=SecretStr(key),
            embeddings=local.embeddings,
            price=local.price,
            limits=Limits(in_flight=local.slots, queued=local.queued, retries=0),
        ),
    )
    supervisor = Supervisor(
        "llama.cpp",
        [sys.executable, "-m", "gateway.local.llamacpp"],
        {
            "path": str(path),
            "model": name,
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
