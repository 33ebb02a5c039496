"""Measures a server's tokens per second on given prompts, and the acceptance of its speculative decoding."""

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

import orjson
from prometheus_client.parser import text_string_to_metric_families

from gateway.upstreams.failures import Failure
from gateway.upstreams.health import fetch_metrics
from gateway.upstreams.transport.transport import TransportError
from gateway.upstreams.upstream import Upstream
from gateway.wire.body_types import Body, Endpoint
from routers.fragments.speedup import estimate_acceptance

WARM_UP_PROMPT: Body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8}
VLLM_COUNTERS, LLAMACPP_COUNTERS = "vllm:spec_decode_num_", "llamacpp:spec_decode_num_"
"""Beginnings of the names of counters about speculative decoding."""


class DraftingCounts(NamedTuple):
    """Counts of a server's own speculative decoding, from its counters, or from the timings of a llama.cpp that shows
    no metrics (without blocks)."""

    drafted: int = 0
    accepted: int = 0
    blocks: int = 0
    whole: int = 0
    """Blocks whose tokens were all accepted."""

    def subtract(self, before: "DraftingCounts") -> "DraftingCounts":
        return DraftingCounts(*(now - then for now, then in zip(self, before, strict=True)))

    def add(self, other: "DraftingCounts") -> "DraftingCounts":
        return DraftingCounts(*map(sum, zip(self, other, strict=True)))

    @property
    def acceptance_rate(self) -> float | None:
        """Acceptance rate per token, the value of `smallfirst models speculate --accept`; None without
        blocks."""
        return estimate_acceptance(self.accepted, self.blocks - self.whole) if self.blocks else None


NO_DRAFTING = DraftingCounts()


class Throughput(NamedTuple):
    tokens: int
    """Completion tokens of all answers."""
    seconds: float
    """Seconds from the first request to the last answer."""
    texts: Sequence[str]
    drafting: DraftingCounts

    @property
    def tokens_per_s(self) -> float:
        """Completion tokens per second."""
        return self.tokens / self.seconds


async def measure_throughput(upstream: Upstream, prompts: Sequence[Body], concurrency: int) -> Throughput:
    """Send every prompt, at most `concurrency` at a time, after one warm-up request that does not count.

    Raises Failure.
    """
    await _send(upstream, WARM_UP_PROMPT)
    slots = asyncio.Semaphore(concurrency)

    async def ask_in_slot(prompt: Body) -> Body:
        async with slots:
            return await _send(upstream, prompt)

    before = await _read_counters(upstream)
    started_at = time.perf_counter()
    answers = await asyncio.gather(*map(ask_in_slot, prompts))
    seconds = time.perf_counter() - started_at
    drafting = (await _read_counters(upstream)).subtract(before)
    if not drafting.drafted:
        for answer in answers:
            drafting = drafting.add(_read_timings(answer))
    tokens = sum(answer["usage"]["completion_tokens"] for answer in answers)
    return Throughput(tokens, seconds, [_read_text(answer) for answer in answers], drafting)


async def _send(upstream: Upstream, prompt: Body) -> Body:
    endpoint: Endpoint = "completions" if "prompt" in prompt else "chat"
    body = upstream.adapt_body({**prompt, "model": upstream.model}, continues=False)
    call = await upstream.send(upstream.url(endpoint), orjson.dumps(body), stream=False)
    try:
        answer: Body = orjson.loads(await call.response.read())
        answer["usage"]["completion_tokens"], answer["choices"][0]  # check that what is read later exists
    except (TransportError, ValueError, LookupError, TypeError) as error:
        raise Failure(
            "garbage", upstream.tier, f"{upstream.name}: {error!r}", upstream=upstream.name
        ) from error
    finally:
        call.close()
    return answer


def _read_timings(answer: Body) -> DraftingCounts:
    timings = answer.get("timings") or {}
    return DraftingCounts(timings.get("draft_n", 0), timings.get("draft_n_accepted", 0))


def _read_text(answer: Body) -> str:
    choice = answer["choices"][0]
    return choice["text"] if "text" in choice else choice["message"]["content"] or ""


async def _read_counters(upstream: Upstream) -> DraftingCounts:
    """Return the server's counters so far; zeros if it has no such metrics."""
    try:
        return _parse_counters(await fetch_metrics(upstream))
    except (TransportError, TimeoutError, ValueError):
        return NO_DRAFTING


def _parse_counters(metrics: str) -> DraftingCounts:
    """Sum the counters of all engines behind a server. The count at a block's last position is that of the
    blocks accepted as a whole."""
    totals: dict[str, float] = {}
    places: dict[int, float] = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples if family.name.startswith((VLLM_COUNTERS, LLAMACPP_COUNTERS)) else ():
            if sample.name.endswith("_per_pos_total"):
                place = int(sample.labels["position"])
                places[place] = places.get(place, 0.0) + sample.value
            elif sample.name.endswith("_total"):
                name = sample.name.partition("spec_decode_num_")[2].removesuffix("_total")
                totals[name] = totals.get(name, 0.0) + sample.value
    return DraftingCounts(
        drafted=int(totals.get("draft_tokens", 0.0)),
        accepted=int(totals.get("accepted_tokens", 0.0)),
        blocks=int(totals.get("drafts", 0.0)),
        whole=int(places[max(places)]) if places else 0,
    )
