"""Scenarios and rounds: each row once a round, in random order, so that noise meets all rows alike."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection

from benchmarks.overhead.load import Request, chat_request, drive
from benchmarks.overhead.process import Child
from benchmarks.overhead.targets import LARGE, MODELS, SMALLFIRST_CASCADE, Site

_QUIET_SECONDS = 0.1
_QUIET_CPU = 0.002
_QUIET_LOOKS = 20
_ALONE = 10
"""One request alone for every ten of the batch."""


@dataclass(frozen=True)
class Scenario:
    """One kind of request under one kind of load."""

    name: str
    site: Site
    requests: int
    concurrency: int
    stream: bool
    saturated: bool

    def request(self, row: str) -> Request:
        return chat_request(MODELS.get(row, LARGE), stream=self.stream)

    def total(self, row: str) -> int:
        """Requests of a row in a round: a tenth of whole drafts, for each takes ten times as long."""
        return self.requests // 10 if row == SMALLFIRST_CASCADE and not self.stream else self.requests


@dataclass(frozen=True)
class Sample:
    """One row in one round; times in microseconds."""

    scenario: str
    row: str
    round: int
    cpu: float | None
    """CPU of the gateway's process tree per request; nothing where there is no gateway."""
    rss: int | None
    per_second: float
    p50: float
    p90: float
    p99: float
    alone_p50: float
    """The median latency without queueing: one request at a time, or the paced streams themselves."""
    upstream_requests: float
    """What the stub saw per request: calls, and calls that asked for log-probabilities."""
    upstream_logprobs: float


async def _settle(gateway: Child | None) -> float:
    """Wait until the gateway has finished its work after the last response; return its CPU so far."""
    if gateway is None:
        return 0.0
    now = gateway.cpu()
    for _ in range(_QUIET_LOOKS):
        await asyncio.sleep(_QUIET_SECONDS)
        before, now = now, gateway.cpu()
        if now - before < _QUIET_CPU:
            break
    return now


def _stats(port: int) -> dict[str, int]:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/stats")
    stats: dict[str, int] = json.loads(connection.getresponse().read())
    connection.close()
    return stats


async def sample(scenario: Scenario, row: str, number: int) -> Sample:
    """Measure one row once."""
    site, request = scenario.site, scenario.request(row)
    gateway, port, total = site.gateways.get(row), site.ports[row], scenario.total(row)
    cpu_before, asked_before = await _settle(gateway), _stats(site.stub)
    result = await drive(port, request, total, scenario.concurrency)
    cpu_after, asked = await _settle(gateway), _stats(site.stub)
    alone = await drive(port, request, max(total // _ALONE, 2), 1) if scenario.saturated else result
    return Sample(
        scenario=scenario.name,
        row=row,
        round=number,
        cpu=None if gateway is None else (cpu_after - cpu_before) * 1e6 / total,
        rss=None if gateway is None else gateway.rss(),
        per_second=result.per_second,
        p50=result.p50 * 1e6,
        p90=result.p90 * 1e6,
        p99=result.p99 * 1e6,
        alone_p50=alone.p50 * 1e6,
        upstream_requests=(asked["requests"] - asked_before["requests"]) / total,
        upstream_logprobs=(asked["with_logprobs"] - asked_before["with_logprobs"]) / total,
    )


async def warm_up(scenarios: list[Scenario], rows: list[str]) -> None:
    """Fill connection pools and caches of every row."""
    for scenario in scenarios:
        for row in rows:
            total = max(scenario.total(row) // 10, 2 * scenario.concurrency)
            await drive(scenario.site.ports[row], scenario.request(row), total, scenario.concurrency)


async def measure(
    scenarios: list[Scenario], rows: list[str], rounds: int, seed: int, note: Callable[[str], None]
) -> list[Sample]:
    """All rounds; within a round every scenario, within it every row once in random order."""
    chance = random.Random(seed)
    samples: list[Sample] = []
    await warm_up(scenarios, rows)
    for number in range(rounds):
        note(f"round {number + 1} of {rounds}")
        for scenario in scenarios:
            order = chance.sample(rows, len(rows))
            samples += [await sample(scenario, row, number) for row in order]
    return samples
