"""Builds the upstream of the configured local engine, and the supervisor that keeps it running."""

import json
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
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

from .llamacpp import hidden_states as states
from .llamacpp.arguments import choose_batch, find_missing_file, parse_arguments
from .llamacpp.startup_log import StartupLog
from .models.fingerprint import hash_text, read_fingerprint
from .settings import LOCAL_UPSTREAM_NAME, LocalEngine
from .sizing.choice import Sizing, size_engine
from .supervision.start_progress import StartReport
from .supervision.supervisor import LaunchSpec, Supervisor, reserve_port
from .supervision.watchdog import build_vital_signs
from .vllm.arguments import build_command, build_environment, inherit_environment
from .vllm.preflight import check_vllm, find_python
from .vllm.startup_stages import FIRST_STAGE, parse_stage
from .vllm.tool_parsers import choose_tool_parser, explain_missing_tools
from .weights.reference import LocalModel
from .weights.resolution import find_local_model

ADAPTER_OPTIONS = ("lora", "lora-scaled")
"""Options of an engine that change its weights for all requests."""

KEEPER_SCRIPT = Path(__file__).with_name("vllm") / "subreaper.py"

VLLM_EXIT_TIMEOUT_S = 15.0
"""Seconds for vLLM to exit on its own."""

MIN_PROMPT_CACHE_MIB = 64
"""Least size of llama.cpp's cache of earlier prompts. It may grow to the size of the key-value cache."""

WARM_UP_TIMEOUT_S = 600.0
"""Maximum seconds for vLLM's first answer, which may include compilation."""


def to_upstream_settings(local: LocalEngine, port: int, key: str = "") -> UpstreamSettings:
    """Return the upstream settings of the engine. It is not probed, as its supervisor knows its health."""
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
        capabilities=_build_capabilities(local),
        probe=0.0,
        price=local.price,
        limits=Limits(in_flight=local.max_in_flight, queued=local.queued, retries=0),
    )


def _build_capabilities(local: LocalEngine) -> Capabilities:
    """Return the capabilities to declare.

    During speculative decoding vLLM rejects `min_p` and `logit_bias`, and llama.cpp returns 0 as the log-probability of
    each drafted token. Without a parser vLLM rejects tools.
    """
    speculates = False if local.speculates else None
    if local.engine == "llamacpp":
        return Capabilities(embeddings=local.embeddings, logprobs=speculates)
    tools = None if choose_tool_parser(local) else False
    return Capabilities(embeddings=False, tools=tools, min_p=speculates, logit_bias=speculates)


def check_local(local: LocalEngine, models_folder: Path) -> LocalModel:
    """Return the model on this machine. Contacts nothing. Raises ConfigError if its engine cannot start, NotFetched if
    it only has to be fetched."""
    if local.chosen_engine == "vllm":  # even if the weights are not here
        _check_vllm(local)
    if local.engine == "llamacpp":
        _check_llamacpp(local, models_folder)
    model = find_local_model(local, models_folder)
    if model.engine == "vllm" and local.chosen_engine != "vllm":
        _check_vllm(local.run_by("vllm"))
    return model


def adopt_model(local: LocalEngine, model: LocalModel) -> LocalEngine:
    """Return the settings with the engine and the name of a model that has been found."""
    return local.run_by(model.engine).model_copy(update={"name": local.name or model.name})


def _check_llamacpp(local: LocalEngine, models_folder: Path) -> None:
    locate_draft(local, models_folder)
    if problem := find_missing_file(parse_arguments(local.arguments)):
        raise ConfigError(f"local.{problem}")


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
    return to_upstream_settings(adopt_model(local, model) if model else local, port=1)


def _read_template(template: str) -> str:
    """Return a chat template that is given as a text, or by its file."""
    with suppress(OSError, ValueError):
        return Path(template).expanduser().read_text(encoding="utf-8")
    return template


def size_local(local: LocalEngine, models_folder: Path) -> Sizing:
    """Choose what the settings leave open. Raises ConfigError if the model does not fit, or is missing."""
    model = find_local_model(local, models_folder)
    return size_engine(adopt_model(local, model), model.path)


def locate_draft(local: LocalEngine, models_folder: Path) -> LocalEngine:
    """Return the settings with the path of llama.cpp's draft model. Raises ConfigError if there is no such file."""
    if local.engine != "llamacpp" or local.speculative is None or local.speculative.model is None:
        return local
    try:
        draft = LocalEngine(engine="llamacpp", model=local.speculative.model)
        path = find_local_model(draft, models_folder).path
    except ConfigError as error:
        raise ConfigError(
            f"local.speculative.model: {local.speculative.model!r} is no GGUF file here"
        ) from error
    speculative = local.speculative.model_copy(update={"model": str(path)})
    return local.model_copy(update={"speculative": speculative})


def build_local_engine(
    local: LocalEngine,
    models_folder: Path,
    on_restart: Callable[[], None],
    report: Callable[[StartReport], None],
) -> tuple[Upstream, Supervisor]:
    """Build the engine's upstream and supervisor. Raises ConfigError if the weights or the engine are
    missing."""
    model = check_local(local, models_folder)
    local = locate_draft(adopt_model(local, model), models_folder)
    sizing = size_engine(local, model.path)
    local = sizing.local
    report(f"{LOCAL_UPSTREAM_NAME}: {sizing.sentence}")
    # vLLM's server binds with SO_REUSEADDR, llama.cpp's with SO_REUSEPORT.
    holder, port = reserve_port(socket.SO_REUSEADDR if local.engine == "vllm" else socket.SO_REUSEPORT)
    key = secrets.token_urlsafe(24)
    settings = to_upstream_settings(local, port, key)
    upstream = Upstream(
        settings,
        scorer=_build_scorer(local, model.path),
        fingerprint=find_fingerprint(local, models_folder, report),
    )
    if local.engine == "vllm" and settings.capabilities.tools is False:
        upstream.lose_capability("tools", explain_missing_tools(local))
    if local.engine == "vllm":
        launch = _build_vllm_launch(local, settings, key, model.path)
    else:
        launch = _build_llamacpp_launch(sizing, settings, key, model.path)
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


def _build_scorer(local: LocalEngine, weights: Path) -> Scorer | None:
    """Return a scorer by hidden states, or None for the default of the kind.

    With embeddings on, llama.cpp returns pooled states instead of one per token.
    """
    if local.engine == "llamacpp" and not local.embeddings:
        return states.build_scorer(weights, choose_batch(local.options))
    return None


def _build_llamacpp_launch(sizing: Sizing, upstream: UpstreamSettings, key: str, weights: Path) -> LaunchSpec:
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


def _build_vllm_launch(local: LocalEngine, upstream: UpstreamSettings, key: str, weights: Path) -> LaunchSpec:
    port = upstream.url.port or 0
    return LaunchSpec(
        "vLLM",
        [str(find_python(local)), "-I", str(KEEPER_SCRIPT)],
        {
            "command": build_command(local, port, weights),
            "environment": build_environment(local),
            "key": key,
            "patience": VLLM_EXIT_TIMEOUT_S,
        },
        build_probe(upstream).url,
        environment=inherit_environment(),
        warm_up=partial(_warm_up, upstream, speculates=local.speculates),
        first_stage=FIRST_STAGE,
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
