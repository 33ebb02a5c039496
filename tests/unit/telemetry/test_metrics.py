"""What `Metrics` exposes after the calls of the request path."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gateway.telemetry.metrics import Metrics

EXCHANGE: dict[str, Any] = {
    "policy": "balanced",
    "endpoint": "chat",
    "route": "slm",
    "reason": "confident",
    "status": 200,
    "seconds": 0.2,
    "overhead": 0.0004,
    "ttft": 0.05,
    "confidence": 0.85,
    "saved_usd": 0.002,
}
CALL: dict[str, Any] = {
    "upstream": "local",
    "tier": "slm",
    "model": "smollm2",
    "outcome": "ok",
    "prompt_tokens": 10,
    "completion_tokens": 4,
    "cost_usd": 0.0,
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"smallfirst_{name}", labels)


def test_an_exchange_is_counted_under_its_labels(metrics: Metrics) -> None:
    metrics.count_exchange(**EXCHANGE)
    metrics.count_exchange(**EXCHANGE)
    metrics.count_exchange(**{**EXCHANGE, "status": 503, "route": "none", "reason": "no_upstream"})

    labels = {"policy": "balanced", "endpoint": "chat"}
    assert value(metrics, "requests_total", **labels, route="slm", reason="confident", status="200") == 2
    assert value(metrics, "requests_total", **labels, route="none", reason="no_upstream", status="503") == 1


def test_an_exchange_is_observed_in_its_histograms(metrics: Metrics) -> None:
    metrics.count_exchange(**EXCHANGE)

    assert value(metrics, "request_seconds_sum", policy="balanced", route="slm") == 0.2
    assert (
        value(metrics, "time_to_first_token_seconds_bucket", policy="balanced", route="slm", le="0.05") == 1
    )
    assert value(metrics, "overhead_seconds_bucket", policy="balanced", le="0.0003") == 0
    assert value(metrics, "overhead_seconds_bucket", policy="balanced", le="0.0005") == 1
    assert value(metrics, "confidence_bucket", policy="balanced", le="0.8") == 0
    assert value(metrics, "confidence_bucket", policy="balanced", le="0.9") == 1


def test_confidence_is_counted_in_tenths(metrics: Metrics) -> None:
    metrics.count_exchange(**EXCHANGE)

    bounds = [
        sample.labels["le"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "smallfirst_confidence_bucket"
    ]
    assert bounds == ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1.0", "+Inf"]


def test_what_an_exchange_does_not_have_is_not_observed(metrics: Metrics) -> None:
    metrics.count_exchange(**{**EXCHANGE, "ttft": None, "confidence": None, "saved_usd": None})

    assert value(metrics, "time_to_first_token_seconds_count", policy="balanced", route="slm") is None
    assert value(metrics, "confidence_count", policy="balanced") is None
    assert value(metrics, "saved_usd_total", policy="balanced") is None
    assert value(metrics, "request_seconds_count", policy="balanced", route="slm") == 1


def test_a_loss_goes_to_overspent_and_the_net_is_the_difference(metrics: Metrics) -> None:
    for saved_usd in (0.5, -0.125, 0.25, 0.0):
        metrics.count_exchange(**{**EXCHANGE, "saved_usd": saved_usd})

    assert value(metrics, "saved_usd_total", policy="balanced") == 0.75
    assert value(metrics, "overspent_usd_total", policy="balanced") == 0.125


@pytest.mark.parametrize("saved_usd", [0.5, -0.5])
def test_saved_and_overspent_exist_together(metrics: Metrics, saved_usd: float) -> None:
    metrics.count_exchange(**{**EXCHANGE, "saved_usd": saved_usd})

    saved = value(metrics, "saved_usd_total", policy="balanced")
    overspent = value(metrics, "overspent_usd_total", policy="balanced")
    assert saved is not None
    assert overspent is not None
    assert saved - overspent == saved_usd


def test_a_call_adds_its_tokens_and_its_cost(metrics: Metrics) -> None:
    metrics.count_call(**CALL)
    metrics.count_call(**{**CALL, "upstream": "openai", "tier": "llm", "model": "gpt", "cost_usd": 0.25})
    metrics.count_call(
        **{**CALL, "upstream": "openai", "tier": "llm", "model": "gpt", "outcome": "cancelled"}
    )

    assert value(metrics, "upstream_calls_total", upstream="local", tier="slm", outcome="ok") == 1
    assert value(metrics, "upstream_calls_total", upstream="openai", tier="llm", outcome="cancelled") == 1
    assert value(metrics, "tokens_total", tier="llm", model="gpt", kind="prompt") == 20
    assert value(metrics, "tokens_total", tier="slm", model="smollm2", kind="completion") == 4
    assert value(metrics, "cost_usd_total", tier="llm", model="gpt") == 0.25
    assert value(metrics, "cost_usd_total", tier="slm", model="smollm2") == 0


def test_a_call_that_another_made_good_is_counted_beside_its_outcome(metrics: Metrics) -> None:
    metrics.count_retry("openai", "llm")
    assert value(metrics, "retried_calls_total", upstream="openai", tier="llm") == 1
    assert value(metrics, "upstream_calls_total", upstream="openai", tier="llm", outcome="error") is None


def test_an_upstream_goes_down_and_comes_up(metrics: Metrics) -> None:
    metrics.set_upstream_up("openai", "llm", False)
    assert value(metrics, "upstream_up", upstream="openai", tier="llm") == 0
    metrics.set_upstream_up("openai", "llm", True)
    assert value(metrics, "upstream_up", upstream="openai", tier="llm") == 1


def test_restarts_drops_and_requests_in_flight(metrics: Metrics) -> None:
    metrics.count_engine_restart("llamacpp")
    metrics.count_dropped_record()
    metrics.in_flight += 1
    metrics.in_flight += 1
    metrics.in_flight -= 1

    assert value(metrics, "engine_restarts_total", engine="llamacpp") == 1
    assert value(metrics, "records_dropped_total") == 1
    assert value(metrics, "in_flight") == 1


def test_two_gateways_do_not_share_their_counts(metrics: Metrics) -> None:
    other = Metrics()
    metrics.count_dropped_record()

    assert value(other, "records_dropped_total") == 0


@pytest.mark.parametrize(
    "accept", [None, "", "*/*", "text/plain;version=0.0.4;q=0.3", "text/plain;version=nonsense"]
)
def test_text_is_rendered_unless_openmetrics_is_asked_for(metrics: Metrics, accept: str | None) -> None:
    metrics.count_exchange(**EXCHANGE)

    body, content_type = metrics.render(accept)

    families = {family.name for family in parse_text(body.decode())}
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert {"smallfirst_requests", "smallfirst_confidence", "smallfirst_in_flight"} <= families


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        "application/openmetrics-text",
        "application/openmetrics-text; version=nonsense",
    ],
)
def test_openmetrics_is_rendered_when_asked_for(metrics: Metrics, accept: str) -> None:
    metrics.count_exchange(**EXCHANGE)

    body, content_type = metrics.render(accept)

    families = {family.name for family in parse_openmetrics(body.decode())}
    assert content_type.startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert body.endswith(b"# EOF\n")
    assert {"smallfirst_requests", "smallfirst_confidence", "smallfirst_in_flight"} <= families
