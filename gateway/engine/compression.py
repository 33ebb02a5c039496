"""Compresses the large model's prompt, once for each exchange, by the surprisal that the small model finds in it."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from gateway.exchange.exchange import Exchange
from gateway.skills.compress.compression import (
    Compressed,
    CompressionPlan,
    Dropped,
    Goal,
    compress,
    run_in_thread_if_large,
)
from gateway.skills.compress.cost_benefit import Estimate, ModelPair, estimate_cost_benefit
from gateway.skills.compress.messages import BodyPath, Keep, parse_segments, replace_texts
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
from .judge.text_scoring import SURPRISAL_REQUIREMENTS, score_text

MAX_PRIVATE_VALUES = 2000
"""Maximum number of private values that compression keeps intact in a prompt."""
COMPRESSION_ASK = Skill("slm", Reason.COMPRESSED)
WARM_UP_CHARS = 32
"""Characters that are read before, so that what a server does only once does not count."""
SAMPLE_CHARS = 400
"""Characters of a prompt that are read to measure a model's prefill speed."""


class Compression(NamedTuple):
    """A finished compression and its costs. `estimate` is None if costs and benefits were not weighed."""

    done: Compressed
    estimate: Estimate | None = None
    seconds: float = 0.0
    saved_usd: float = 0.0

    @property
    def spared(self) -> int:
        """The number of tokens that the large model does not read."""
        return self.done.before - self.done.after

    def to_account(self) -> dict[str, Any]:
        """Return the figures for headers, records and API answers. They hold no text."""
        done = self.done
        account: dict[str, Any] = {"method": done.method}
        if done.before:
            account |= {"tokens_before": done.before, "tokens_after": done.after}
            account |= {"target": done.target, "ratio": round(done.after / done.before, 4)}
        if done.blocks:
            account |= {
                "blocks": done.blocks,
                "blocks_left_out": done.left_out,
                **_count_dropped(done.dropped),
            }
        if done.why:
            account["why"] = done.why
        if self.estimate is not None:
            account |= {f"estimated_{name}": _round(value) for name, value in self.estimate._asdict().items()}
        return account | {"seconds": _round(self.seconds), "saved_usd": _round(self.saved_usd)}


def _count_dropped(dropped: Sequence[Dropped]) -> dict[str, Any]:
    """Return how much went, in all and of each text."""
    texts = [
        {
            "text": format_path(one.path),
            "words": one.of_words,
            "words_dropped": one.words,
            "sentences_dropped": one.sentences,
        }
        for one in dropped
        if one.words
    ]
    return {
        "words_dropped": sum(one.words for one in dropped),
        "sentences_dropped": sum(one.sentences for one in dropped),
        "dropped": texts,
    }


def format_path(path: BodyPath) -> str:
    """Return a position in a body as messages name it: `messages[1].content`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


def _round(value: float) -> float:
    return float(f"{value:.4g}")


class Compressor:
    """Compresses the prompt of one exchange. `pools` are all pools, also those that the exchange may not use."""

    def __init__(self, exchange: Exchange, dispatcher: Dispatcher, pools: Mapping[Tier, Pool]) -> None:
        self._exchange = exchange
        self._dispatcher = dispatcher
        self._pools = pools

    async def body_for_llm(self) -> Body:
        """Return the exchange's body for the large model, and put a report into the exchange's skills.

        The body is unchanged if the policy has no `compress` section, or if compression fails; the report says why.
        """
        exchange, section = self._exchange, self._exchange.policy.compress
        if section is None or exchange.endpoint == "embeddings":
            return exchange.body
        compression = await self._compress_once(section)
        exchange.skills["compress"] = compression.to_account()
        exchange.compressed_tokens = compression.spared
        texts = compression.done.texts
        return replace_texts(exchange.body, texts) if texts else exchange.body

    async def _compress_once(self, section: Compress) -> Compression:
        """Return the exchange's compression. Retries, continuations and shadows share it."""
        body = self._exchange.body
        key = section, self._private_values(), orjson.dumps(body.get("messages", body.get("prompt")))
        compression: Compression | None = self._exchange.compressions.get(key)
        if compression is None:
            try:
                compression = await self.compress(body, section)
            except PlanClosed:
                raise
            except Unavailable as failure:
                compression = Compression(Compressed({}, 0, 0, 0, failure.why))
            except asyncio.CancelledError:
                if not self._dispatcher.is_out_of_time():
                    raise
                compression = Compression(Compressed({}, 0, 0, 0, "ceiling"))
            self._exchange.compressions[key] = compression
        return compression

    async def compress(self, body: Body, section: Compress) -> Compression:
        """Compress a body. Raises Unavailable if the small model can not read it, or not in time."""
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

        max_seconds = self._max_seconds(section)
        bare = exchange.passages.bare if exchange.passages is not None else None
        keep = Keep(section.keep, self._private_values())

        async def read(reader: SurprisalReader) -> Compressed:
            if len(keep.verbatim) > MAX_PRIVATE_VALUES:
                raise Unavailable("private", "slm", "too much of the prompt is private")

            async def find_objection(plan: CompressionPlan) -> str:
                pair[:] = [await self._measure_pair(reader, plan.sample)]
                estimates[:] = [estimate_cost_benefit(plan.reads, plan.before, plan.target, *pair)]
                return estimates[0].find_objection(
                    section.worth, max_seconds, is_measured=pair[0].is_measured
                )

            try:
                async with asyncio.timeout(max_seconds):
                    size = len(exchange.raw)
                    segments = await run_in_thread_if_large(
                        parse_segments, body, keep, system=section.system, bare=bare, size=size
                    )
                    return await compress(segments, goal, reader, find_objection)
            except TimeoutError as error:
                raise Unavailable(
                    "timeout", "slm", f"the prompt was not read within {max_seconds:g} s"
                ) from error

        done = await score_text(exchange, self._dispatcher, COMPRESSION_ASK, read)
        call = next(call for call in reversed(exchange.calls) if call.ask is COMPRESSION_ASK)
        self._find_reader(call.upstream).latency.record_scoring(call.usage.prompt_tokens, call.seconds)
        saved = -call.cost_usd
        if pair and done.texts:
            saved += estimate_cost_benefit(0, done.before, done.after, *pair).spared_usd
        return Compression(done, next(iter(estimates), None), time.perf_counter() - began, saved)

    def _private_values(self) -> tuple[str, ...]:
        """Return the private values that the privacy screens have found, and will hide."""
        screens = [screen for screen in self._exchange.transforms if isinstance(screen, PrivacyScreen)]
        return tuple(value for screen in screens for value in screen.private_values)

    def _max_seconds(self, section: Compress) -> float:
        """Return the maximum seconds of compression. It leaves half of the exchange's time for the answer."""
        limit = self._exchange.policy.ceilings.seconds
        return section.seconds if limit is None else min(section.seconds, limit / 2.0)

    async def _measure_pair(self, reader: SurprisalReader, sample: str) -> ModelPair:
        """Return the prices and prefill speeds of both models; measure the small model's speed if it is unknown."""
        slm = self._find_reader()
        if slm.latency.scoring_s_per_token is None:
            await reader.read_surprisals(sample[:WARM_UP_CHARS])
            began, tokens_before = time.perf_counter(), reader.tokens_read
            await reader.read_surprisals(sample[:SAMPLE_CHARS])
            slm.latency.record_scoring(reader.tokens_read - tokens_before, time.perf_counter() - began)
        pool = self._pools.get("llm")
        llm = pool.find_first(self._exchange.needs._replace(tokens=0)) if pool else None
        return ModelPair(
            slm.latency.scoring_s_per_token or 0.0,
            llm.latency.prefill_s_per_token if llm else 0.0,
            slm.price,
            llm.price if llm else FREE,
            llm is None or llm.latency.has_measured_prefill,
        )

    def _find_reader(self, name: str = "") -> Upstream:
        """Return the small model's upstream of that name, else the first one that can read."""
        pool = self._pools["slm"]
        named = next((upstream for upstream in pool.upstreams if upstream.name == name), None)
        return named or pool.find_first(SURPRISAL_REQUIREMENTS, only_up=True) or pool.upstreams[0]
