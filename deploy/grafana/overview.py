"""The *Overview* dashboard: a request's way through the gateway, from the left top to the right bottom.

`python -m deploy.grafana.overview` prints the JSON that lies in `dashboards/overview.json`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

_DATASOURCE = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
_POLICY = 'policy=~"$policy"'
_COLUMNS, _HEIGHT = 24, 8


@dataclass(frozen=True)
class Target:
    expr: str
    legend: str
    unit: str | None = None  # set where it differs from the panel's: the series gets the right axis


@dataclass(frozen=True)
class Panel:
    title: str
    description: str
    unit: str
    targets: list[Target]
    kind: str = "timeseries"
    stacked: bool = False
    width: int = 12
    bounds: dict[str, float] = field(default_factory=dict)


def _rate(metric: str, *matchers: str, by: Iterable[str] = ()) -> str:
    """The summed rate of a counter; `by` names the labels that stay."""
    selector = f"{{{','.join(matchers)}}}" if matchers else ""
    labels = ", ".join(by)
    grouping = f" by ({labels}) " if labels else ""
    return f"sum{grouping}(rate(smallfirst_{metric}{selector}[$__rate_interval]))"


def _quantile(quantile: float, metric: str, *by: str) -> str:
    return f"histogram_quantile({quantile}, {_rate(f'{metric}_bucket', _POLICY, by=('le', *by))})"


def _panels() -> list[Panel]:
    return [
        *(_requests(), _share()),
        *(_confidence(), _money()),
        *(_latency(), _overhead()),
        *(_upstreams(), _tokens(), _policies()),
        _quality(),
    ]


def _requests() -> Panel:
    return Panel(
        "Requests per second, by route",
        "slm: the small model answered. slm+llm: it was asked first. llm: it was not asked. none: no answer.",
        "reqps",
        [Target(_rate("requests_total", _POLICY, by=["route"]), "{{route}}")],
        stacked=True,
    )


def _share() -> Panel:
    answered = _rate("requests_total", _POLICY, 'route!="none"')
    small = _rate("requests_total", _POLICY, 'route="slm"')
    passed_on = _rate("requests_total", _POLICY, 'route!~"slm|none"', by=["reason"])
    return Panel(
        "Share answered by the small model",
        "Of the answered requests; the rest by the reason for which the LLM answered.",
        "percentunit",
        [
            # The 0 shows a policy that sends everything on, which has no series with the route slm.
            Target(f"({small} or vector(0)) / {answered}", "small model"),
            Target(f"{passed_on} / scalar({answered})", "LLM: {{reason}}"),
        ],
        stacked=True,
        bounds={"min": 0, "max": 1},
    )


def _confidence() -> Panel:
    return Panel(
        "Confidence in the small answer",
        "Calibrated probability that the small model's answer is good.",
        "percentunit",
        [Target(_rate("confidence_bucket", _POLICY, by=["le"]), "{{le}}")],
        kind="heatmap",
    )


def _money() -> Panel:
    saved, overspent = _rate("saved_usd_total", _POLICY), _rate("overspent_usd_total", _POLICY)
    return Panel(
        "Cost and net saving, dollars per hour",
        "Net saving: what the LLM alone would have cost, minus the cost; below zero, the cascade costs more. "
        "The cost is that of all policies: calls carry no policy.",
        "currencyUSD",
        [
            Target(f"{_rate('cost_usd_total', by=['tier'])} * 3600", "cost {{tier}}"),
            Target(f"({saved} - {overspent}) * 3600", "net saving"),
        ],
    )


def _latency() -> Panel:
    return Panel(
        "Time to the first token and in total",
        "By route, as the client sees it.",
        "s",
        [
            Target(_quantile(quantile, metric, "route"), f"{name} p{quantile * 100:.0f} {{{{route}}}}")
            for metric, name in (("time_to_first_token_seconds", "first"), ("request_seconds", "total"))
            for quantile in (0.5, 0.95)
        ],
    )


def _overhead() -> Panel:
    return Panel(
        "The gateway's own time, and requests in flight",
        "Time in a request that no upstream accounts for; requests in flight on the right axis.",
        "s",
        [
            Target(_quantile(0.5, "overhead_seconds"), "p50"),
            Target(_quantile(0.99, "overhead_seconds"), "p99"),
            Target("sum(smallfirst_in_flight)", "in flight", unit="short"),
        ],
    )


def _upstreams() -> Panel:
    return Panel(
        "Upstreams: calls per second by outcome, and up",
        "Retried: failed, and put to another upstream of the tier. Up on the right axis: 1 takes calls, 0 is down.",
        "reqps",
        [
            Target(_rate("upstream_calls_total", by=["upstream", "outcome"]), "{{upstream}} {{outcome}}"),
            Target(_rate("retried_calls_total", by=["upstream"]), "{{upstream}} retried"),
            Target("min by (upstream, tier) (smallfirst_upstream_up)", "up {{upstream}}", unit="bool_on_off"),
        ],
    )


def _tokens() -> Panel:
    return Panel(
        "Tokens per second, by tier",
        "Read (prompt) and written (completion).",
        "short",
        [Target(_rate("tokens_total", by=["tier", "kind"]), "{{tier}} {{kind}}")],
        width=6,
    )


def _policies() -> Panel:
    return Panel(
        "Policies",
        "Stale: the files have a mistake, and the policies before it are in force; the log names file and line. "
        "Loads that failed are of the last hour.",
        "none",
        [
            Target("max(smallfirst_policies_stale)", "stale"),
            Target('sum(increase(smallfirst_policy_reloads_total{outcome="error"}[1h]))', "failed loads"),
        ],
        kind="stat",
        width=6,
    )


def _quality() -> Panel:
    by = ("route", "evaluator")
    total, count = _rate("quality_sum", _POLICY, by=by), _rate("quality_count", _POLICY, by=by)
    return Panel(
        "Quality of evaluated answers, by route",
        "The mean of what evaluators in the background found, 1 being best, of the share of answers that a policy's "
        "`evaluate` draws; evaluations per second on the right axis.",
        "percentunit",
        [
            Target(f"{total} / {count}", "{{route}} {{evaluator}}"),
            Target(
                _rate("evaluations_total", _POLICY, by=["outcome"]), "evaluations {{outcome}}", unit="eps"
            ),
        ],
        bounds={"min": 0},
        width=24,
    )


def queries() -> list[tuple[str, str]]:
    """Every query as (panel title, PromQL), with `$__rate_interval` and `$policy` left in it."""
    return [(panel.title, target.expr) for panel in _panels() for target in panel.targets]


def dashboard() -> dict[str, Any]:
    return {
        "uid": "smallfirst-overview",
        "title": "Smallfirst: overview",
        "tags": ["smallfirst"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "5s",
        "time": {"from": "now-15m", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "templating": {"list": [_datasource_variable(), _policy_variable()]},
        "panels": _panels_json(_panels()),
    }


def _datasource_variable() -> dict[str, Any]:
    return {
        "name": "DS_PROMETHEUS",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {"text": "Prometheus", "value": "prometheus"},
    }


def _policy_variable() -> dict[str, Any]:
    return {
        "name": "policy",
        "label": "Policy",
        "type": "query",
        "datasource": _DATASOURCE,
        "definition": "label_values(smallfirst_requests_total, policy)",
        "query": {"query": "label_values(smallfirst_requests_total, policy)", "refId": "policy"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panels_json(panels: list[Panel]) -> list[dict[str, Any]]:
    """From the left to the right, a row after the other."""
    ends = list(accumulate(panel.width for panel in panels))
    places = [divmod(end - panel.width, _COLUMNS) for end, panel in zip(ends, panels, strict=True)]
    return [
        _panel_json(number, panel, *place)
        for number, (panel, place) in enumerate(zip(panels, places, strict=True), 1)
    ]


def _panel_json(number: int, panel: Panel, row: int, column: int) -> dict[str, Any]:
    return {
        "id": number,
        "title": panel.title,
        "description": panel.description,
        "type": panel.kind,
        "datasource": _DATASOURCE,
        "gridPos": {"x": column, "y": row * _HEIGHT, "w": panel.width, "h": _HEIGHT},
        "targets": [_target_json(panel, index) for index in range(len(panel.targets))],
        **_LOOKS[panel.kind](panel),
    }


def _ref_id(index: int) -> str:
    return chr(ord("A") + index)


def _target_json(panel: Panel, index: int) -> dict[str, Any]:
    target = panel.targets[index]
    return {
        "refId": _ref_id(index),
        "datasource": _DATASOURCE,
        "editorMode": "code",
        "expr": target.expr,
        "legendFormat": target.legend,
        "format": "heatmap" if panel.kind == "heatmap" else "time_series",
        "range": True,
    }


def _heatmap_json(panel: Panel) -> dict[str, Any]:
    return {
        "fieldConfig": {"defaults": {}, "overrides": []},
        "options": {
            "calculate": False,  # the buckets are Prometheus's own
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Blues", "steps": 64},
            "legend": {"show": True},
            "tooltip": {"mode": "single", "yHistogram": True},
            "rowsFrame": {"layout": "auto"},
            "yAxis": {"unit": panel.unit, "axisPlacement": "left"},
        },
    }


def _timeseries_json(panel: Panel) -> dict[str, Any]:
    custom = {
        "fillOpacity": 30 if panel.stacked else 0,
        "stacking": {"mode": "normal" if panel.stacked else "none"},
        "showPoints": "never",
    }
    return {
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "custom": custom, **panel.bounds},
            "overrides": [
                _right_axis(_ref_id(index), target.unit)
                for index, target in enumerate(panel.targets)
                if target.unit is not None
            ],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def _stat_json(panel: Panel) -> dict[str, Any]:
    """Green at none, red from one on."""
    steps = [{"color": "green", "value": None}, {"color": "red", "value": 0.5}]
    return {
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "decimals": 0,
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"]},
            "colorMode": "background",
            "graphMode": "none",
            "textMode": "value_and_name",
        },
    }


_LOOKS = {"heatmap": _heatmap_json, "timeseries": _timeseries_json, "stat": _stat_json}


def _right_axis(ref_id: str, unit: str) -> dict[str, Any]:
    return {
        "matcher": {"id": "byFrameRefID", "options": ref_id},
        "properties": [
            {"id": "unit", "value": unit},
            {"id": "custom.axisPlacement", "value": "right"},
            {"id": "min", "value": 0},
        ],
    }


def render() -> str:
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render())
