"""Metrics that vLLM and llama.cpp servers report about themselves: load, speed, and acceptance of drafted tokens."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway.upstreams.health import fetch_metrics
from gateway.upstreams.transport.transport import TransportError
from gateway.upstreams.upstream import Upstream

MIN_INTERVAL_S = 1.0
"""Minimum seconds between two readings from which a speed is computed."""

PROMPT_TOKENS, GENERATED_TOKENS = "prompt_tokens", "generation_tokens"
DRAFTS, DRAFTED, ACCEPTED = "drafts", "draft_tokens", "accepted_tokens"
RUNNING, WAITING, CACHE = "requests_running", "requests_waiting", "cache_used"
SERIES: Mapping[str, Mapping[str, str]] = {
    "vllm": {
        "vllm:prompt_tokens_total": PROMPT_TOKENS,
        "vllm:generation_tokens_total": GENERATED_TOKENS,
        "vllm:spec_decode_num_drafts_total": DRAFTS,
        "vllm:spec_decode_num_draft_tokens_total": DRAFTED,
        "vllm:spec_decode_num_accepted_tokens_total": ACCEPTED,
        "vllm:num_requests_running": RUNNING,
        "vllm:num_requests_waiting": WAITING,
        "vllm:kv_cache_usage_perc": CACHE,
    },
    "llamacpp": {
        "llamacpp:prompt_tokens_total": PROMPT_TOKENS,
        "llamacpp:tokens_predicted_total": GENERATED_TOKENS,
        "llamacpp:spec_decode_num_drafts_total": DRAFTS,
        "llamacpp:spec_decode_num_draft_tokens_total": DRAFTED,
        "llamacpp:spec_decode_num_accepted_tokens_total": ACCEPTED,
        "llamacpp:requests_processing": RUNNING,
        "llamacpp:requests_deferred": WAITING,
    },
}
"""The series that are read of each kind of server, with the figures they become."""


class Reading(NamedTuple):
    """A server's figures at a time. `speed` is the tokens per second generated since the previous reading."""

    at: float
    series: Mapping[str, float]
    speed: float | None = None

    @property
    def acceptance(self) -> float | None:
        """The share of drafted tokens that were accepted, from 0 to 1, or None without drafts."""
        drafted = self.series.get(DRAFTED)
        return self.series.get(ACCEPTED, 0.0) / drafted if drafted else None


class Figure(NamedTuple):
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily]
    name: str
    meaning: str
    value: Callable[[Reading], float | None]


def _read_series(name: str) -> Callable[[Reading], float | None]:
    return lambda reading: reading.series.get(name)


def _figure(kind: type[CounterMetricFamily] | type[GaugeMetricFamily], name: str, meaning: str) -> Figure:
    """Return a figure that is one of the series."""
    return Figure(kind, name, meaning, _read_series(name))


FIGURES = (
    _figure(CounterMetricFamily, PROMPT_TOKENS, "Tokens that an engine has read."),
    _figure(CounterMetricFamily, GENERATED_TOKENS, "Tokens that an engine has written."),
    _figure(CounterMetricFamily, DRAFTS, "Speculative drafts inside an engine."),
    _figure(CounterMetricFamily, DRAFTED, "Tokens of these drafts."),
    _figure(CounterMetricFamily, ACCEPTED, "Drafted tokens that were right."),
    Figure(
        GaugeMetricFamily,
        "acceptance",
        "Share of an engine's drafted tokens that were right, from 0 to 1, since its start.",
        lambda reading: reading.acceptance,
    ),
    Figure(
        GaugeMetricFamily,
        "tokens_per_second",
        "Tokens that an engine wrote a second, between the last two times that metrics were asked for.",
        lambda reading: reading.speed,
    ),
    _figure(GaugeMetricFamily, RUNNING, "Requests that an engine works on."),
    _figure(GaugeMetricFamily, WAITING, "Requests that wait inside an engine."),
    _figure(GaugeMetricFamily, CACHE, "Share of an engine's KV cache in use, from 0 to 1."),
)


class EngineMetrics(Collector):
    """Metrics of the upstreams that run vLLM or llama.cpp and are not a cloud. They are read when the gateway's metrics
    are read, never by a request. A server that does not answer has no series."""

    def __init__(self, upstreams: Iterable[Upstream]) -> None:
        self._upstreams = [one for one in upstreams if one.source.engine in SERIES and not one.is_cloud]
        self.readings: dict[str, Reading] = {}

    async def refresh(self) -> None:
        await asyncio.gather(*(self._refresh(upstream) for upstream in self._upstreams))

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families; called by prometheus_client."""
        for figure in FIGURES:
            family = figure.kind(f"smallfirst_engine_{figure.name}", figure.meaning, labels=["upstream"])
            for upstream, reading in list(self.readings.items()):
                if (value := figure.value(reading)) is not None:
                    family.add_metric([upstream], value)
            yield family

    async def _refresh(self, upstream: Upstream) -> None:
        try:
            series = parse_series(await fetch_metrics(upstream), SERIES[upstream.source.engine])
        except (TransportError, TimeoutError, ValueError):
            self.readings.pop(upstream.name, None)
            return
        now, previous = time.monotonic(), self.readings.get(upstream.name)
        if previous is None or now - previous.at >= MIN_INTERVAL_S:
            speed = previous and generation_speed(previous, series, now)
            self.readings[upstream.name] = Reading(now, series, speed)


def parse_series(text: str, names: Mapping[str, str]) -> dict[str, float]:
    """Parse a server's metrics in the text format. Return the named series by figure, each summed over its engines."""
    totals: dict[str, float] = {}
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if (figure := names.get(name)) is not None:
            totals[figure] = totals.get(figure, 0.0) + float(line.rpartition(" ")[2])
    return totals


def generation_speed(previous: Reading, series: Mapping[str, float], now: float) -> float | None:
    """Return tokens per second between two readings. None if the engine restarted in between."""
    then, written = previous.series.get(GENERATED_TOKENS), series.get(GENERATED_TOKENS)
    if then is None or written is None or written < then:
        return None
    return (written - then) / (now - previous.at)
