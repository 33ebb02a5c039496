"""Commands, metrics, providers and the policy `auto` -> Markdown."""

from collections.abc import Iterator
from typing import Any

import typer

from gateway.cli import app
from gateway.cli.lazy_group import LazyCommand
from gateway.telemetry.engine_metrics import SERIES, EngineMetrics, Reading
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.capabilities import Capabilities
from gateway.upstreams.providers.env_providers import PROVIDERS
from gateway.upstreams.providers.registry import SERVER_KINDS
from tools.docs.markdown import ROOT
from tools.docs.table import code, table


def commands() -> str:
    """Every command's words, arguments and options, as `--help` says them."""
    return "\n\n".join(_commands(typer.main.get_command(app), "smallfirst"))


def _commands(command: Any, name: str) -> Iterator[str]:
    inner = getattr(command, "commands", None)
    rows = [_parameter(parameter) for parameter in command.params]
    parts = [f"**`{name}`**", command.help or "", table(["", "default", "meaning"], rows) if rows else ""]
    if not inner or name == "smallfirst":
        yield "\n\n".join(part for part in parts if part)
    for key, below in (inner or {}).items():
        yield from _commands(below.load() if isinstance(below, LazyCommand) else below, f"{name} {key}")


def _parameter(parameter: Any) -> list[str]:
    names = ", ".join(
        map(code, parameter.opts if parameter.param_type_name == "option" else [parameter.name.upper()])
    )
    value = parameter.default
    if parameter.required:
        return [names, "required", parameter.help]
    shown = "" if value is None or isinstance(value, bool) or callable(value) else code(value)
    return [names, shown, parameter.help]


def auto_policy() -> str:
    """The built-in policy's file, whole."""
    text = (ROOT / "policies" / "builtin" / "auto.yaml").read_text(encoding="utf-8")
    return f"```yaml\n{text.rstrip()}\n```"


def providers_table() -> str:
    rows = [
        [code(one.key_variable), code(one.base_url_variable), code(one.url), code(one.model)]
        for one in PROVIDERS
    ]
    return table(["key", "replaces the URL", "URL", "model"], rows)


def kinds_table() -> str:
    """What each kind of server is known to do."""
    known = {engine: kind.capabilities("", "") for engine, kind in SERVER_KINDS.items()}
    rows = [
        [code(name), *(_shown(getattr(capabilities, name)) for capabilities in known.values())]
        for name in Capabilities.model_fields
    ]
    return table(["", *map(code, known)], rows)


def _shown(value: bool | int) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def metrics_table() -> str:
    rows = []
    for metric in (*_used().collect(), *_engines().collect()):
        labels = {label: None for sample in metric.samples for label in sample.labels if label != "le"}
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        rows.append([code(name), metric.type, ", ".join(map(code, labels)), metric.documentation])
    return table(["metric", "type", "labels", "meaning"], sorted(rows))


def _used() -> Metrics:
    """Metrics with every series in them: a metric without one shows no labels."""
    metrics = Metrics()
    metrics.count_exchange(
        policy="",
        endpoint="",
        route="",
        reason="",
        status=200,
        seconds=0.0,
        overhead=0.0,
        ttft=0.0,
        confidence=0.0,
        saved_usd=0.0,
        uncalibrated=True,
    )
    metrics.count_speculation(policy="", blocks=0, drafted=0, accepted=0, written=0, alone=0)
    metrics.count_call(
        upstream="", tier="", model="", outcome="", prompt_tokens=0, completion_tokens=0, cost_usd=0.0
    )
    metrics.observe_quality(policy="", route="", evaluator="", p=0.0)
    metrics.count_evaluation("", "")
    metrics.count_retry("", "")
    metrics.set_upstream_up("", "", up=True)
    metrics.count_engine_restart("")
    metrics.count_policy_load(ok=True)
    return metrics


def _engines() -> EngineMetrics:
    """Likewise, of one engine."""
    engines = EngineMetrics([])
    engines.readings[""] = Reading(at=0.0, series=dict.fromkeys(SERIES["vllm"].values(), 1.0), speed=1.0)
    return engines
