"""Builds the upstream of the configured local engine, and the supervisor that keeps it running."""

import secrets
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from pydantic import HttpUrl, SecretStr

from gateway.upstreams.settings import Limits, UpstreamSettings
from gateway.upstreams.upstream import Upstream
from policies.loading.yaml_files import ConfigError

from .llamacpp import launch as llamacpp
from .models.fingerprint import read_engine_fingerprint
from .preparation import adopt_model, prepare_engine
from .settings import LOCAL_UPSTREAM_NAME, LocalEngine
from .supervision.start_progress import StartReport
from .supervision.supervisor import Supervisor, reserve_port
from .supervision.watchdog import build_vital_signs
from .vllm import launch as vllm
from .vllm.tool_parsers import explain_missing_tools
from .weights.resolution import find_local_model


def to_upstream_settings(local: LocalEngine, port: int, key: str = "") -> UpstreamSettings:
    """Return the upstream settings of the engine. It is not probed, as its supervisor knows its health."""
    build_capabilities = (vllm if local.engine == "vllm" else llamacpp).build_capabilities
    return UpstreamSettings(
        name=LOCAL_UPSTREAM_NAME,
        tier="slm",
        url=HttpUrl(f"http://127.0.0.1:{port}/v1"),
        model=local.model_name,
        engine=local.engine,
        adapters=tuple(local.adapters),
        key=SecretStr(key),
        priority=local.priority,
        weight=local.weight,
        context=local.context,
        capabilities=build_capabilities(local),
        probe=0.0,
        price=local.price,
        limits=Limits(in_flight=local.max_in_flight, queued=local.queued, retries=0),
    )


def describe_local(
    local: LocalEngine, models_folder: Path, report: Callable[[str], None] = lambda line: None
) -> Upstream:
    """Return the engine's upstream, to read its properties: it is not to be called. Without a model on this machine it
    has no fingerprint."""
    try:
        model = find_local_model(local, models_folder)
    except ConfigError:
        return Upstream(to_upstream_settings(local, port=1))
    settings = to_upstream_settings(adopt_model(local, model), port=1)
    return Upstream(settings, fingerprint=read_engine_fingerprint(model.path, local.arguments, report))


def build_local_engine(
    local: LocalEngine,
    models_folder: Path,
    on_restart: Callable[[], None],
    report: Callable[[StartReport], None],
) -> tuple[Upstream, Supervisor]:
    """Build the engine's upstream and supervisor. Raises ConfigError if the weights or the engine are
    missing."""
    model, sizing = prepare_engine(local, models_folder)
    local = sizing.local
    report(f"{LOCAL_UPSTREAM_NAME}: {sizing.sentence}")
    # vLLM's server binds with SO_REUSEADDR, llama.cpp's with SO_REUSEPORT.
    holder, port = reserve_port(socket.SO_REUSEADDR if local.engine == "vllm" else socket.SO_REUSEPORT)
    key = secrets.token_urlsafe(24)
    settings = to_upstream_settings(local, port, key)
    upstream = Upstream(
        settings,
        scorer=llamacpp.build_scorer(local, model.path) if local.engine == "llamacpp" else None,
        fingerprint=read_engine_fingerprint(model.path, local.arguments, report),
    )
    if local.engine == "vllm" and settings.capabilities.tools is False:
        upstream.lose_capability("tools", explain_missing_tools(local))
    build_launch = (vllm if local.engine == "vllm" else llamacpp).build_launch
    launch = build_launch(sizing, settings, key, model.path)
    if upstream.doubts_tools:
        launch = launch._replace(warm_up=partial(_run_in_order, launch.warm_up, upstream.learn_tool_support))
    supervisor = Supervisor(
        launch,
        vital_signs=build_vital_signs(upstream, local.hung_after),
        port_holder=holder,
        on_running=upstream.set_running,
        on_restart=on_restart,
        report=report,
    )
    upstream.set_running(False)
    return upstream, supervisor


async def _run_in_order(*steps: Callable[[], Awaitable[None]]) -> None:
    for step in steps:
        await step()
