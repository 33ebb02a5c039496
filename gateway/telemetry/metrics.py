"""The Prometheus metrics of the request path."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

_OPENMETRICS = "application/openmetrics-text"

_CONFIDENCE = tuple(tenth / 10 for tenth in range(1, 11))
_LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_OVERHEAD = (
    *(0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.00075),
    *(0.001, 0.0015, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
)

Labels = tuple[str | int, ...]


class _Counters(dict[Labels, float]):
    """A counter's values by label values. The library's own counters take a lock and four calls per
    increment. The gateway counts from one thread only, fourteen times per request."""

    def __init__(self, name: str, documentation: str, *labels: str) -> None:
        super().__init__()
        self._family = (f"smallfirst_{name}", documentation, labels)

    def __missing__(self, labels: Labels) -> float:
        return 0.0

    def to_family(self) -> Metric:
        name, documentation, labels = self._family
        family = CounterMetricFamily(name, documentation, labels=labels)
        for values, total in list(self.items()):
            family.add_metric([str(value) for value in values], total)
        return family


class _Gauges(_Counters):
    def to_family(self) -> Metric:
        name, documentation, labels = self._family
        family = GaugeMetricFamily(name, documentation, labels=labels)
        for values, value in list(self.items()):
            family.add_metric([str(label) for label in values], value)
        return family


class _Histograms(dict[Labels, list[float]]):
    """A histogram's counts by label values: one count per bucket, then the sum."""

    def __init__(self, name: str, documentation: str, bounds: tuple[float, ...], *labels: str) -> None:
        super().__init__()
        self._family = (f"smallfirst_{name}", documentation, labels)
        self._bounds = bounds

    def __missing__(self, labels: Labels) -> list[float]:
        counts = self[labels] = [0.0] * (len(self._bounds) + 2)
        return counts

    def observe(self, labels: Labels, value: float) -> None:
        counts = self[labels]
        counts[bisect_left(self._bounds, value)] += 1
        counts[-1] += value

    def to_family(self) -> Metric:
        name, documentation, labels = self._family
        family = HistogramMetricFamily(name, documentation, labels=labels)
        bounds = [*map(str, self._bounds), "+Inf"]
        for values, counts in list(self.items()):
            buckets = list(zip(bounds, accumulate(counts[:-1]), strict=True))
            family.add_metric([str(value) for value in values], buckets, sum_value=counts[-1])
        return family


class Metrics(Collector):
    """Counts what the gateway does, in its own registry, so that two gateways fit in one process.

    Callers take the labels `policy`, `model`, `upstream` and `engine` from the configuration, never from a
    request. This bounds the number of series; nothing here checks it again.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.in_flight = 0
        self._requests = _Counters(
            "requests", "Requests answered.", "policy", "endpoint", "route", "reason", "status"
        )
        self._confidence = _Histograms(
            "confidence", "Calibrated probability that the small answer is good.", _CONFIDENCE, "policy"
        )
        self._uncalibrated = _Counters(
            "uncalibrated", "Requests answered under a generic calibrator.", "policy"
        )
        self._saved = _Counters("saved_usd", "Dollars below what the LLM alone would have cost.", "policy")
        self._overspent = _Counters(
            "overspent_usd", "Dollars above what the LLM alone would have cost.", "policy"
        )
        self._blocks = _Counters(
            "speculation_blocks", "Drafts, or blocks of one, that were verified.", "policy"
        )
        self._speculated = _Counters(
            "speculation_tokens",
            "Tokens of verified drafts (drafted) and of these in the answer (accepted); tokens that the LLM wrote "
            "meanwhile (written), and those that it alone would have written (alone).",
            "policy",
            "kind",
        )
        self._ttft = _Histograms(
            "time_to_first_token_seconds", "Request in to first token out.", _LATENCY, "policy", "route"
        )
        self._seconds = _Histograms(
            "request_seconds", "Request in to last byte out.", _LATENCY, "policy", "route"
        )
        self._overhead = _Histograms(
            "overhead_seconds", "The gateway's own time in a request.", _OVERHEAD, "policy"
        )
        self._calls = _Counters(
            "upstream_calls", "Calls to upstreams that have ended.", "upstream", "tier", "outcome"
        )
        self._retried = _Counters(
            "retried_calls",
            "Failed calls that another upstream of their tier was asked to make good.",
            "upstream",
            "tier",
        )
        self._tokens = _Counters(
            "tokens", "Tokens read (prompt) and written (completion).", "tier", "model", "kind"
        )
        self._cost = _Counters("cost_usd", "Dollars spent on calls.", "tier", "model")
        self._up = _Gauges(
            "upstream_up", "Whether an upstream takes calls (1) or not (0).", "upstream", "tier"
        )
        self._restarts = _Counters("engine_restarts", "Restarts of a local engine.", "engine")
        self._quality = _Histograms(
            "quality",
            "What an evaluator found of an answer, from 0 to 1: more is better.",
            _CONFIDENCE,
            *("policy", "route", "evaluator"),
        )
        self._evaluations = _Counters(
            "evaluations",
            "Answers drawn to be evaluated in the background: done, failed, or dropped because the queue was full, "
            "there was no text to judge, or the hour's dollars were spent.",
            *("policy", "outcome"),
        )
        self._dropped = _Counters(
            "records_dropped", "Records given up because the writer could not keep pace."
        )
        self._dropped[()] = 0.0
        self._reloads = _Counters("policy_reloads", "Loads of changed policy files.", "outcome")
        self._reloads["ok",] = self._reloads["error",] = 0.0
        self._stale = _Gauges(
            "policies_stale", "Whether the policy files can't be used (1): those before them are in force."
        )
        self._stale[()] = 0.0
        ProcessCollector(registry=self.registry)
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families; called by prometheus_client."""
        for metric in vars(self).values():
            if isinstance(metric, _Counters | _Histograms):
                yield metric.to_family()
        yield GaugeMetricFamily("smallfirst_in_flight", "Requests being answered now.", value=self.in_flight)

    def count_exchange(
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
        uncalibrated: bool = False,
    ) -> None:
        """Count one answered request. A `saved_usd` below zero is a loss.

        None means that there was no first token, no confidence, or no price to compare with.
        """
        self._requests[policy, endpoint, route, reason, status] += 1
        self._seconds.observe((policy, route), seconds)
        self._overhead.observe((policy,), overhead)
        if ttft is not None:
            self._ttft.observe((policy, route), ttft)
        if confidence is not None:
            self._confidence.observe((policy,), confidence)
        if uncalibrated:
            self._uncalibrated[policy,] += 1
        if saved_usd is not None:
            self._count_savings(policy, saved_usd)

    def count_speculation(
        self, *, policy: str, blocks: float, drafted: float, accepted: float, written: float, alone: float
    ) -> None:
        """Count the verified drafts of one answer, in tokens of the LLM."""
        self._blocks[policy,] += blocks
        counts = {"drafted": drafted, "accepted": accepted, "written": written, "alone": alone}
        for kind, count in counts.items():
            self._speculated[policy, kind] += count

    def count_rejected(self, *, endpoint: str, code: str, status: int) -> None:
        """Count a request that never became an exchange, since its body or its model was invalid."""
        self._requests["none", endpoint, "none", code, status] += 1

    def observe_quality(self, *, policy: str, route: str, evaluator: str, p: float) -> None:
        """Count an evaluator's score of one answer."""
        self._quality.observe((policy, route, evaluator), p)

    def count_evaluation(self, policy: str, outcome: str) -> None:
        """Count one sampled answer: `done`, `failed`, `queue_full`, `unreadable` or `unaffordable`."""
        self._evaluations[policy, outcome] += 1

    def _count_savings(self, policy: str, saved_usd: float) -> None:
        # Both counters must exist from the start: PromQL drops a policy from the difference saved - overspent if it
        # has only one of them.
        self._saved[policy,] += max(0.0, saved_usd)
        self._overspent[policy,] += max(0.0, -saved_usd)

    def count_call(
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
        """Count one finished call. `outcome` is ok, cancelled, or an error code."""
        self._calls[upstream, tier, outcome] += 1
        self._tokens[tier, model, "prompt"] += prompt_tokens
        self._tokens[tier, model, "completion"] += completion_tokens
        self._cost[tier, model] += cost_usd

    def count_retry(self, upstream: str, tier: str) -> None:
        self._retried[upstream, tier] += 1

    def set_upstream_up(self, upstream: str, tier: str, up: bool) -> None:
        self._up[upstream, tier] = float(up)

    def count_engine_restart(self, engine: str) -> None:
        self._restarts[engine,] += 1

    def count_dropped_record(self) -> None:
        self._dropped[()] += 1

    def count_policy_load(self, *, ok: bool) -> None:
        """Count a load after the first. `ok`: the policies in force are those of the files."""
        self._reloads["ok" if ok else "error",] += 1
        self._stale[()] = 0.0 if ok else 1.0

    def render(self, accept: str | None) -> tuple[bytes, str]:
        """Return the exposition and its content type: OpenMetrics 1.0 if the Accept header names it, else
        text.

        The client's header is not passed on, since the library raises on a version that it cannot parse.
        """
        openmetrics = accept is not None and _OPENMETRICS in accept
        encoder, content_type = choose_encoder(f"{_OPENMETRICS}; version=1.0.0" if openmetrics else "")
        return encoder(self.registry), content_type
