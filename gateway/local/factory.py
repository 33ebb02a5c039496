"""Builds the upstream of the configured local engine, and the supervisor that keeps it running."""

import json
import os
import secrets
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from pydantic import HttpUrl, SecretStr

from gateway.upstreams.capabilities import Capabilities
from gateway.upstreams.providers.server_kind import Scorer
from gateway.upstreams.settings import Limits, UpstreamSettings
from gateway.upstreams.transport.address import build_headers, build_probe, build_urls
from gateway.upstreams.transport.http_client import HttpTransport
from gateway.upstreams.upstream import Upstream
from policies.loading.yaml_files import ConfigError
from routers.confidence.calibration import Fingerprint

from .fingerprint import hash_text, read_fingerprint
from .llamacpp import hidden_states as states
from .settings import LOCAL_UPSTREAM_NAME, LocalEngine
from .supervisor import LaunchSpec, Supervisor, reserve_port
from .vllm.arguments import build_command, build_environment, inherit_environment
from .vllm.preflight import check_vllm, find_python
from .vllm.startup_stages import parse_stage
from .watchdog import build_vital_signs
from .weights.reference import LocalModel, parse_reference
from .weights.resolution import find_local_model

ADAPTER_OPTIONS = ("lora", "lora-scaled")
"""Options of an engine that change its weights for all requests."""

KEEPER_SCRIPT = Path(__file__).with_name("vllm") / "subreaper.py"

VLLM_EXIT_TIMEOUT_S = 15.0
"""Seconds for vLLM to exit on its own."""

WARM_UP_TIMEOUT_S = 600.0
"""Maximum seconds for vLLM's first answer, which may include compilation."""


def to_upstream_settings(
    local: LocalEngine, port: int, key: str = "", model: LocalModel | None = None
) -> UpstreamSettings:
    """Return the upstream settings of the engine. It is not probed, as its supervisor knows its health. Without a
    `model`, its name is the one that the reference tells."""
    return UpstreamSettings(
        name=LOCAL_UPSTREAM_NAME,
        tier="slm",
        url=HttpUrl(f"http://127.0.0.1:{port}/v1"),
        model=model.name if model else parse_reference(local.model, local.chosen_engine).model_name,
        engine=local.engine,
        adapters=tuple(local.adapters),
        key=SecretStr(key),
        priority=local.priority,
        weight=local.weight,
        context=local.context,
        capabilities=_build_capabilities(local),
        probe=0.0,
        price=local.price,
        limits=Limits(in_flight=local.max_in_flight, queued=local.queued, retries=0),
    )


def _build_capabilities(local: LocalEngine) -> Capabilities:
    """Return the capabilities to declare. vLLM rejects `min_p` and `logit_bias` during speculative
    decoding."""
    if local.speculative is not None:
        return Capabilities(min_p=False, logit_bias=False)
    return Capabilities(embeddings=local.embeddings)


def check_local(local: LocalEngine, models_folder: Path) -> LocalModel:
    """Return the model on this machine. Contacts nothing. Raises ConfigError if its engine cannot start, NotFetched if
    it only has to be fetched."""
    if local.chosen_engine == "vllm":  # even if the weights are not here
        _check_vllm(local)
    model = find_local_model(local, models_folder)
    if model.engine == "vllm" and local.chosen_engine != "vllm":
        _check_vllm(local.run_by("vllm"))
    return model


def _check_vllm(local: LocalEngine) -> None:
    build_command(local, port=1)
    check_vllm(local)


def find_fingerprint(
    local: LocalEngine, models_folder: Path, report: Callable[[str], None] = lambda line: None
) -> Fingerprint | None:
    """Return the fingerprint of the engine's model; None if its files are not on this machine.

    Options that replace a part of the model replace what the files say. Reads gigabytes once: not for the event loop.
    """
    model = _find_model(local, models_folder)
    fingerprint = None if model is None else read_fingerprint(model.path, report)
    if fingerprint is None:
        return None
    arguments = {key.replace("_", "-"): value for key, value in local.arguments.items()}
    changes: dict[str, str | None] = {}
    if quantisation := arguments.get("quantization"):
        changes["quantisation"] = str(quantisation)
    if template := arguments.get("chat-template-file") or arguments.get("chat-template"):
        changes["chat_template"] = hash_text(_read_template(str(template)))
    if adapters := {name: arguments[name] for name in ADAPTER_OPTIONS if arguments.get(name)}:
        changes["weights"] = hash_text(f"{fingerprint.weights} {json.dumps(adapters, sort_keys=True)}")
    return fingerprint.model_copy(update=changes)


def _find_model(local: LocalEngine, models_folder: Path) -> LocalModel | None:
    with suppress(ConfigError):
        return find_local_model(local, models_folder)
    return None


def describe_local(local: LocalEngine, models_folder: Path) -> UpstreamSettings:
    """Return the upstream settings of the engine, to read its properties. Its model need not be here."""
    model = _find_model(local, models_folder)
    return to_upstream_settings(local.run_by(model.engine) if model else local, port=1, model=model)


def _read_template(template: str) -> str:
    """Return a chat template that is given as a text, or by its file."""
    with suppress(OSError, ValueError):
        return Path(template).expanduser().read_text(encoding="utf-8")
    return template


def build_local_engine(
    local: LocalEngine, models_folder: Path, on_restart: Callable[[], None], report: Callable[[str], None]
) -> tuple[Upstream, Supervisor]:
    """Build the engine's upstream and supervisor. Raises ConfigError if the weights or the engine are
    missing."""
    model = check_local(local, models_folder)
    local = local.run_by(model.engine)
    # vLLM's server binds with SO_REUSEADDR, llama.cpp's with SO_REUSEPORT.
    holder, port = reserve_port(socket.SO_REUSEADDR if local.engine == "vllm" else socket.SO_REUSEPORT)
    key = secrets.token_urlsafe(24)
    settings = to_upstream_settings(local, port, key, model)
    upstream = Upstream(
        settings,
        scorer=_build_scorer(local, model.path),
        fingerprint=find_fingerprint(local, models_folder, report),
    )
    launch = (_build_vllm_launch if local.engine == "vllm" else _build_llamacpp_launch)(
        local, settings, key, model.path
    )
    if upstream.doubts_tools:
        launch = launch._replace(warm_up=upstream.learn_tool_support)
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


def _build_scorer(local: LocalEngine, weights: Path) -> Scorer | None:
    """Return a scorer by hidden states, or None for the default of the kind.

    With embeddings on, llama.cpp returns pooled states instead of one per token.
    """
    if local.engine == "llamacpp" and not local.embeddings:
        return states.build_scorer(weights)
    return None


def _build_llamacpp_launch(
    local: LocalEngine, upstream: UpstreamSettings, key: str, weights: Path
) -> LaunchSpec:
    return LaunchSpec(
        "llama.cpp",
        [sys.executable, "-m", "gateway.local.llamacpp.server"],
        {
            "path": str(weights),
            "model": upstream.model,
            "port": upstream.url.port,
            "key": key,
            "slots": local.max_in_flight,
            "context": local.context,
            "threads": local.threads or max(1, (os.cpu_count() or 2) // 2),
            "embeddings": local.embeddings,
            "batch": states.WINDOW_TOKENS,
        },
        build_probe(upstream).url,
        environment=inherit_environment(),
    )


def _build_vllm_launch(local: LocalEngine, upstream: UpstreamSettings, key: str, weights: Path) -> LaunchSpec:
    port = upstream.url.port or 0
    return LaunchSpec(
        "vLLM",
        [str(find_python(local)), "-I", str(KEEPER_SCRIPT)],
        {
            "command": build_command(local, port, upstream.model, weights),
            "environment": build_environment(local),
            "key": key,
            "patience": VLLM_EXIT_TIMEOUT_S,
        },
        build_probe(upstream).url,
        environment=inherit_environment(),
        warm_up=partial(_warm_up, upstream, speculates=local.speculative is not None),
        parse_stage=parse_stage,
        exit_timeout_s=VLLM_EXIT_TIMEOUT_S + 5.0,  # by then the keeper has killed the rest itself
    )


WARM_UP_REQUESTS: tuple[dict[str, Any], ...] = (
    {"prompt": "Hello", "max_tokens": 2},
    {"prompt": "Hello", "max_tokens": 1, "prompt_logprobs": 1},  # as drafts are verified and texts are scored
)
REPETITION: dict[str, Any] = {"prompt": "one two " * 8, "max_tokens": 16, "temperature": 0.0}
"""A request whose answer probably repeats its prompt, so that an engine that speculates drafts and verifies."""


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
