"""The committed dashboard is the one that the code builds, and asks for metrics that exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Metric

from deploy.grafana.overview import queries
from gateway.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
COMMITTED = GRAFANA / "dashboards" / "overview.json"
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(COMMITTED.read_text())
    return loaded


def registered() -> dict[str, set[str]]:
    """The labels of every sample name that the registry can expose."""
    metrics = Metrics()
    metrics.count_exchange(
        policy="p",
        endpoint="e",
        route="slm",
        reason="r",
        status=200,
        seconds=1,
        overhead=1,
        ttft=1,
        confidence=1,
        saved_usd=1,
    )
    metrics.count_call(
        upstream="u", tier="slm", model="m", outcome="ok", prompt_tokens=1, completion_tokens=1, cost_usd=1
    )
    metrics.count_retry("u", "slm")
    metrics.set_upstream_up("u", "slm", True)
    metrics.count_engine_restart("e")
    metrics.count_policy_load(ok=False)
    metrics.count_evaluation("p", "done")
    metrics.observe_quality(policy="p", route="slm", evaluator="structure", p=1.0)
    return {name: labels for family in metrics.registry.collect() for name, labels in samples(family)}


def samples(family: Metric) -> list[tuple[str, set[str]]]:
    names = [family.name + suffix for suffix in SUFFIXES.get(family.type, [])]
    labels = {label for sample in family.samples for label in sample.labels}
    return [(name, labels) for name in names]


def test_the_committed_dashboard_is_what_the_code_prints() -> None:
    command = [sys.executable, "-m", "deploy.grafana.overview"]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert COMMITTED.read_text() == printed, "run: python -m deploy.grafana.overview > " + str(
        COMMITTED.relative_to(ROOT)
    )


@pytest.mark.parametrize(("title", "promql"), queries())
def test_a_query_names_metrics_and_labels_that_exist(title: str, promql: str) -> None:
    known = registered()
    names = re.findall(r"smallfirst_\w+", promql)
    used = set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", promql))
    for grouping in re.findall(r"by \(([^)]*)\)", promql):
        used |= {label.strip() for label in grouping.split(",")}

    assert names, title
    assert set(names) <= known.keys(), title
    assert used <= set().union(*(known[name] for name in names)), title


def test_the_dashboard_shows_every_query_once() -> None:
    shown = [
        (panel["title"], target["expr"]) for panel in dashboard()["panels"] for target in panel["targets"]
    ]
    assert shown == queries()


def test_panels_do_not_overlap() -> None:
    def covered(panel: dict[str, Any]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        return {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}

    panels = dashboard()["panels"]
    assert 6 <= len(panels) <= 10
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations(panels, 2):
        assert not covered(one) & covered(other)
    assert all(x < 24 for panel in panels for x, _ in covered(panel))
    area = sum(panel["gridPos"]["w"] * panel["gridPos"]["h"] for panel in panels)
    assert area == 24 * max(y + 1 for panel in panels for _, y in covered(panel)), "there is a gap"


def test_the_provisioned_datasource_is_the_one_the_dashboard_starts_with() -> None:
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"][
        0
    ]
    variables = {variable["name"]: variable for variable in dashboard()["templating"]["list"]}

    assert variables.keys() == {"DS_PROMETHEUS", "policy"}
    assert variables["DS_PROMETHEUS"]["current"]["value"] == source["uid"]
    assert {panel["datasource"]["uid"] for panel in dashboard()["panels"]} == {"${DS_PROMETHEUS}"}
