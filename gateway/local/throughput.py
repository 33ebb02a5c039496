"""Measures a server's tokens per second on given prompts, and the acceptance of its speculative decoding."""

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

import orjson
from prometheus_client.parser import text_string_to_metric_families

from gateway.upstreams.failures import Failure
from gateway.upstreams.health import exposition
from gateway.upstreams.transport.transport import Broken
from gateway.upstreams.upstream import Upstream
from gateway.wire.shapes import Body, Endpoint
from routers.fragments.speedup import acceptance

WARMING: Body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8}
COUNTERS = "vllm:spec_decode_num_"


class Drafting(NamedTuple):
    """Counts of a server's own speculative decoding, from vLLM's counters or llama.cpp's timings (without
    blocks)."""

    drafted: int = 0
    accepted: int = 0
    blocks: int = 0
    whole: int = 0
    """Blocks whose tokens were all accepted."""

    def less(self, before: "Drafting") -> "Drafting":
        return Drafting(*(now - then for now, then in zip(self, before, strict=True)))

    def plus(self, other: "Drafting") -> "Drafting":
        return Drafting(*map(sum, zip(self, other, strict=True)))

    @property
    def accept(self) -> float | None:
        """Acceptance rate per token, the value of `smallfirst models speculate --accept`; None without
        blocks."""
        return acceptance(self.accepted, self.blocks - self.whole) if self.blocks else None


NONE = Drafting()


class Measured(NamedTuple):
    tokens: int
    """Completion tokens of all answers."""
    seconds: float
    """Seconds from the first request to the last answer."""
    texts: Sequence[str]
    drafting: Drafting

    @property
    def speed(self) -> float:
        """Completion tokens per second."""
        return self.tokens / self.seconds


async def measure(upstream: Upstream, prompts: Sequence[Body], at_once: int) -> Measured:
    """Send every prompt, at most `concurrency` at a time, after one warm-up request that does not count.

    Raises Failure.
    """
    await _ask(upstream, WARMING)
    slots = asyncio.Semaphore(at_once)

    async def one(prompt: Body) -> Body:
        async with slots:
            return await _ask(upstream, prompt)

    before = await _counted(upstream)
    began = time.perf_counter()
    answers = await asyncio.gather(*map(one, prompts))
    seconds = time.perf_counter() - began
    drafting = (await _counted(upstream)).less(before)
    for answer in answers:
        timings = answer.get("timings") or {}
        drafting = drafting.plus(Drafting(timings.get("draft_n", 0), timings.get("draft_n_accepted", 0)))
    tokens = sum(answer["usage"]["completion_tokens"] for answer in answers)
    return Measured(tokens, seconds, [_text(answer) for answer in answers], drafting)


async def _ask(upstream: Upstream, prompt: Body) -> Body:
    endpoint: Endpoint = "completions" if "prompt" in prompt else "chat"
    body = upstream.adapted({**prompt, "model": upstream.model}, continues=False)
    call = await upstream.send(upstream.url(endpoint), orjson.dumps(body), stream=False)
    try:
        answer: Body = orjson.loads(await call.response.read())
        answer["usage"]["completion_tokens"], answer["choices"][0]  # check that what is read later exists
    except (Broken, ValueError, LookupError, TypeError) as error:
        raise Failure(
            "garbage", upstream.tier, f"{upstream.name}: {error!r}", upstream=upstream.name
        ) from error
    finally:
        call.close()
    return answer


def _text(answer: Body) -> str:
    choice = answer["choices"][0]
    return choice["text"] if "text" in choice else choice["message"]["content"] or ""


async def _counted(upstream: Upstream) -> Drafting:
    """Return vLLM's counters so far; zeros if the server has no such metrics."""
    try:
        return _drafting(await exposition(upstream))
    except (Broken, TimeoutError, ValueError):
        return NONE


def _drafting(metrics: str) -> Drafting:
    """Sum the counters of all engines behind a server. The count at a block's last position is that of the
    blocks accepted as a whole."""
    totals: dict[str, float] = {}
    places: dict[int, float] = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples if family.name.startswith(COUNTERS) else ():
            if sample.name.endswith("_per_pos_total"):
                place = int(sample.labels["position"])
                places[place] = places.get(place, 0.0) + sample.value
            elif sample.name.endswith("_total"):
                name = sample.name.removeprefix(COUNTERS).removesuffix("_total")
                totals[name] = totals.get(name, 0.0) + sample.value
    return Drafting(
        drafted=int(totals.get("draft_tokens", 0.0)),
        accepted=int(totals.get("accepted_tokens", 0.0)),
        blocks=int(totals.get("drafts", 0.0)),
        whole=int(places[max(places)]) if places else 0,
    )
