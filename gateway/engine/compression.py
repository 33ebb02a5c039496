"""What an exchange's large model reads, compressed: once an exchange, by its small model, through the one door."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from gateway.exchange.exchange import Exchange
from gateway.skills.compress.compression import (
    Compressed,
    CompressionPlan,
    Goal,
    compress,
    run_in_thread_if_large,
)
from gateway.skills.compress.cost_benefit import Estimate, ModelPair, estimate_cost_benefit
from gateway.skills.compress.messages import Keep, parse_segments, replace_texts
from gateway.skills.compress.surprisal import SurprisalReader
from gateway.skills.privacy.screen import PrivacyScreen
from gateway.upstreams.pool import Pool
from gateway.upstreams.upstream import Upstream
from gateway.wire.body_types import Body
from policies.schema.compress import Compress
from routers.cost import FREE
from routers.plan import Reason, Skill, Tier, Unavailable

from .admission import PlanClosed
from .dispatch import Dispatcher
from .text_scoring import SURPRISAL_REQUIREMENTS, score_text

MAX_PRIVATE_VALUES = 2000
"""Private values that are looked for in a prompt, so as not to take them apart."""
COMPRESSION_ASK = Skill("slm", Reason.COMPRESSED)
SAMPLE_CHARS = 400
"""Characters by which it is measured how fast a model reads that has not read yet."""


class Compression(NamedTuple):
    """`seconds` it took; the `estimate` is None where nothing was there to be weighed."""

    done: Compressed
    estimate: Estimate | None = None
    seconds: float = 0.0
    saved_usd: float = 0.0

    @property
    def spared(self) -> int:
        """Tokens that the large model does not read."""
        return self.done.before - self.done.after

    def to_account(self) -> dict[str, Any]:
        """For headers, records and whoever asks: no text."""
        done = self.done
        told: dict[str, Any] = {"method": done.method}
        if done.before:
            told |= {"tokens_before": done.before, "tokens_after": done.after}
            told |= {"target": done.target, "ratio": round(done.after / done.before, 4)}
        if done.blocks:
            told |= {"blocks": done.blocks, "blocks_left_out": done.left_out}
        if done.why:
            told["why"] = done.why
        if self.estimate is not None:
            told |= {f"estimated_{name}": _round(value) for name, value in self.estimate._asdict().items()}
        return told | {"seconds": _round(self.seconds), "saved_usd": _round(self.saved_usd)}


def _round(value: float) -> float:
    return float(f"{value:.4g}")


class Compressor:
    """Of one exchange. `pools` are all there are."""

    def __init__(self, exchange: Exchange, dispatcher: Dispatcher, pools: Mapping[Tier, Pool]) -> None:
        self._exchange = exchange
        self._dispatcher = dispatcher
        self._pools = pools

    async def body_for_llm(self) -> Body:
        """The exchange's, as its large model gets it: as it is where its policy says nothing of compression, or where
        it can't be had, which the account tells."""
        exchange, section = self._exchange, self._exchange.policy.compress
        if section is None or exchange.endpoint == "embeddings":
            return exchange.body
        found = await self._compress_once(section)
        exchange.skills["compress"] = found.to_account()
        exchange.compressed_tokens = found.spared
        return replace_texts(exchange.body, found.done.texts) if found.done.texts else exchange.body

    async def _compress_once(self, section: Compress) -> Compression:
        """Retries, continuations and shadows have the same."""
        body = self._exchange.body
        key = section, self._private_values(), orjson.dumps(body.get("messages", body.get("prompt")))
        found: Compression | None = self._exchange.compressions.get(key)
        if found is None:
            try:
                found = await self.compress(body, section)
            except PlanClosed:
                raise
            except Unavailable as lost:
                found = Compression(Compressed({}, 0, 0, 0, lost.why))
            except asyncio.CancelledError:
                if not self._dispatcher.is_out_of_time():
                    raise
                found = Compression(Compressed({}, 0, 0, 0, "ceiling"))
            self._exchange.compressions[key] = found
        return found

    async def compress(self, body: Body, section: Compress) -> Compression:
        """Raises Unavailable."""
        began = time.perf_counter()
        goal = Goal(
            section.target_ratio,
            section.target_tokens,
            section.min_tokens,
            section.question_aware,
            section.drop_numbers,
        )
        exchange = self._exchange
        estimates: list[Estimate] = []
        pair: list[ModelPair] = []

        most = self._max_seconds(section)
        bare = exchange.passages.bare if exchange.passages is not None else None
        keep = Keep(section.keep, self._private_values())

        async def work(reader: SurprisalReader) -> Compressed:
            if len(keep.verbatim) > MAX_PRIVATE_VALUES:
                raise Unavailable("private", "slm", "too much of the prompt is private")

            async def why_not(plan: CompressionPlan) -> str:
                pair[:] = [await self._measure_pair(reader, plan.sample)]
                estimates[:] = [estimate_cost_benefit(plan.reads, plan.before, plan.target, *pair)]
                return estimates[0].find_objection(section.worth, most)

            try:
                async with asyncio.timeout(most):
                    size = len(exchange.raw)
                    found = await run_in_thread_if_large(
                        parse_segments, body, keep, system=section.system, bare=bare, size=size
                    )
                    return await compress(found, goal, reader, why_not)
            except TimeoutError as over:
                raise Unavailable("timeout", "slm", f"the prompt was not read within {most:g} s") from over

        done = await score_text(exchange, self._dispatcher, COMPRESSION_ASK, work)
        call = next(call for call in reversed(exchange.calls) if call.ask is COMPRESSION_ASK)
        self._find_reader(call.upstream).latency.record_scoring(call.usage.prompt_tokens, call.seconds)
        saved = -call.cost_usd
        if pair and done.texts:
            saved += estimate_cost_benefit(0, done.before, done.after, *pair).spared_usd
        return Compression(done, next(iter(estimates), None), time.perf_counter() - began, saved)

    def _private_values(self) -> tuple[str, ...]:
        """What is private, and found and hidden once the text leaves."""
        found = [one.private_values for one in self._exchange.transforms if isinstance(one, PrivacyScreen)]
        return tuple(value for values in found for value in values)

    def _max_seconds(self, section: Compress) -> float:
        """Seconds: half of what the exchange may take is left for its answer."""
        limit = self._exchange.policy.ceilings.seconds
        return section.seconds if limit is None else min(section.seconds, limit / 2.0)

    async def _measure_pair(self, reader: SurprisalReader, sample: str) -> ModelPair:
        """Measures how fast the small model reads where that is not known yet."""
        slm = self._find_reader()
        if slm.latency.scoring_s_per_token is None:
            began, read = time.perf_counter(), reader.tokens_read
            await reader.read_surprisals(sample[:SAMPLE_CHARS])
            slm.latency.record_scoring(reader.tokens_read - read, time.perf_counter() - began)
        pool = self._pools.get("llm")
        llm = pool.find_first(self._exchange.needs._replace(tokens=0)) if pool else None
        return ModelPair(
            slm.latency.scoring_s_per_token or 0.0,
            llm.latency.prefill_s_per_token if llm else 0.0,
            slm.price,
            llm.price if llm else FREE,
        )

    def _find_reader(self, name: str = "") -> Upstream:
        """Who reads: by name, or who is asked first."""
        pool = self._pools["slm"]
        named = next((one for one in pool.upstreams if one.name == name), None)
        return named or pool.find_first(SURPRISAL_REQUIREMENTS, only_up=True) or pool.upstreams[0]
