"""The Prometheus metrics of the request path."""

from __future__ import annotations

from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase

_OPENMETRICS = "application/openmetrics-text"

_CONFIDENCE = tuple(tenth / 10 for tenth in range(1, 11))
_LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_OVERHEAD = (
    *(0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.00075),
    *(0.001, 0.0015, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
)

M = TypeVar("M", bound=MetricWrapperBase)


class _Children(dict[tuple[str | int, ...], M], Generic[M]):
    """A metric's children by their label values, in the order of its label names.

    `labels()` turns every value into a string and takes a lock; a hit here is one dict lookup.
    """

    def __init__(self, metric: M) -> None:
        super().__init__()
        self._metric = metric

    def __missing__(self, key: tuple[str | int, ...]) -> M:
        child = self[key] = self._metric.labels(*key)
        return child


class Metrics:
    """Counts what the gateway does, on a registry of its own, so that two gateways fit in one process.

    Callers take the labels `policy`, `model`, `upstream` and `engine` from the configuration, never
    from a request: that bounds the number of series, and nothing here guards it again.
    """

    registry: CollectorRegistry
    in_flight: Gauge

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._register_exchange_metrics()
        self._register_upstream_metrics()
        self._dropped = Counter(
            "smallfirst_records_dropped_total",
            "Records given up because the writer could not keep pace.",
            registry=self.registry,
        )
        self.in_flight = Gauge("smallfirst_in_flight", "Requests being answered now.", registry=self.registry)

    def _register_exchange_metrics(self) -> None:
        self._requests = self._counter(
            "requests_total", "Requests answered.", "policy", "endpoint", "route", "reason", "status"
        )
        self._confidence = self._histogram(
            "confidence", "Calibrated probability that the small answer is good.", _CONFIDENCE, "policy"
        )
        self._saved = self._counter(
            "saved_usd_total", "Dollars below what the LLM alone would have cost.", "policy"
        )
        self._overspent = self._counter(
            "overspent_usd_total", "Dollars above what the LLM alone would have cost.", "policy"
        )
        self._ttft = self._histogram(
            "time_to_first_token_seconds", "Request in to first token out.", _LATENCY, "policy", "route"
        )
        self._seconds = self._histogram(
            "request_seconds", "Request in to last byte out.", _LATENCY, "policy", "route"
        )
        self._overhead = self._histogram(
            "overhead_seconds", "The gateway's own time in a request.", _OVERHEAD, "policy"
        )

    def _register_upstream_metrics(self) -> None:
        self._calls = self._counter(
            "upstream_calls_total", "Calls to upstreams that have ended.", "upstream", "tier", "outcome"
        )
        self._tokens = self._counter(
            "tokens_total", "Tokens read (prompt) and written (completion).", "tier", "model", "kind"
        )
        self._cost = self._counter("cost_usd_total", "Dollars spent on calls.", "tier", "model")
        self._up = _Children(
            Gauge(
                "smallfirst_upstream_up",
                "Whether an upstream takes calls (1) or not (0).",
                ("upstream", "tier"),
                registry=self.registry,
            )
        )
        self._restarts = self._counter("engine_restarts_total", "Restarts of a local engine.", "engine")

    def _counter(self, name: str, documentation: str, *labels: str) -> _Children[Counter]:
        return _Children(Counter(f"smallfirst_{name}", documentation, labels, registry=self.registry))

    def _histogram(
        self, name: str, documentation: str, buckets: tuple[float, ...], *labels: str
    ) -> _Children[Histogram]:
        return _Children(
            Histogram(f"smallfirst_{name}", documentation, labels, buckets=buckets, registry=self.registry)
        )

    def exchange(
        self,
        *,
        policy: str,
        endpoint: str,
        route: str,
        reason: str,
        status: int,
        seconds: float,
        overhead: float,
        ttft: float | None,
        confidence: float | None,
        saved_usd: float | None,
    ) -> None:
        """Count one answered request; a `saved_usd` below zero is a loss.

        None means that there was no first token, no score, or no price to compare with.
        """
        self._requests[policy, endpoint, route, reason, status].inc()
        self._seconds[policy, route].observe(seconds)
        self._overhead[policy,].observe(overhead)
        if ttft is not None:
            self._ttft[policy, route].observe(ttft)
        if confidence is not None:
            self._confidence[policy,].observe(confidence)
        if saved_usd is not None:
            self._save(policy, saved_usd)

    def rejected(self, *, endpoint: str, code: str, status: int) -> None:
        """Count a request that never became an exchange: its body or its model was wrong."""
        self._requests["none", endpoint, "none", code, status].inc()

    def _save(self, policy: str, saved_usd: float) -> None:
        # Both children must exist from the start: PromQL drops a policy from the difference
        # saved - overspent when it has only one of them.
        saved, overspent = self._saved[policy,], self._overspent[policy,]
        if saved_usd >= 0:
            saved.inc(saved_usd)
        else:
            overspent.inc(-saved_usd)

    def call(
        self,
        *,
        upstream: str,
        tier: str,
        model: str,
        outcome: str,
        prompt_tokens: int,
        completion_tokens: int,
        cost_usd: float,
    ) -> None:
        """Count one ended call; `outcome` is ok, cancelled, or an error code."""
        self._calls[upstream, tier, outcome].inc()
        self._tokens[tier, model, "prompt"].inc(prompt_tokens)
        self._tokens[tier, model, "completion"].inc(completion_tokens)
        self._cost[tier, model].inc(cost_usd)

    def upstream_up(self, upstream: str, tier: str, up: bool) -> None:
        self._up[upstream, tier].set(1 if up else 0)

    def engine_restarted(self, engine: str) -> None:
        self._restarts[engine,].inc()

    def record_dropped(self) -> None:
        self._dropped.inc()

    def render(self, accept: str | None) -> tuple[bytes, str]:
        """The exposition and its content type: OpenMetrics 1.0 where the Accept header names it, else text.

        The header itself is the client's, and the library raises on a version that it cannot read.
        """
        openmetrics = accept is not None and _OPENMETRICS in accept
        encoder, content_type = choose_encoder(f"{_OPENMETRICS}; version=1.0.0" if openmetrics else "")
        return encoder(self.registry), content_type
