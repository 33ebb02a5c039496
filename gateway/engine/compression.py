"""What an exchange's large model reads, compressed: once an exchange, by its small model, through the one door."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from gateway.exchange.exchange import Exchange
from gateway.skills.compress.compression import Compressed, Goal, Plan, compress, in_thread
from gateway.skills.compress.cost_benefit import Estimate, Pair, estimated
from gateway.skills.compress.messages import Keep, rewritten, turns
from gateway.skills.compress.surprisal import Surprises
from gateway.skills.privacy.screen import Privacy
from gateway.upstreams.pool import Pool
from gateway.upstreams.upstream import Upstream
from gateway.wire.shapes import Body
from policies.schema.compress import Compress
from routers.cost import FREE
from routers.plan import Reason, Skill, Tier, Unavailable

from .admission import Closed
from .dispatch import Calling
from .text_scoring import READING, reading

MOST_VALUES = 2000
"""Private values that are looked for in a prompt, so as not to take them apart."""
ASK = Skill("slm", Reason.COMPRESSED)
SAMPLE = 400
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

    def account(self) -> dict[str, Any]:
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
            told |= {f"estimated_{name}": _short(value) for name, value in self.estimate._asdict().items()}
        return told | {"seconds": _short(self.seconds), "saved_usd": _short(self.saved_usd)}


def _short(value: float) -> float:
    return float(f"{value:.4g}")


class Compressing:
    """Of one exchange. `pools` are all there are."""

    def __init__(self, exchange: Exchange, calling: Calling, pools: Mapping[Tier, Pool]) -> None:
        self._exchange = exchange
        self._calling = calling
        self._pools = pools

    async def body(self) -> Body:
        """The exchange's, as its large model gets it: as it is where its policy says nothing of compression, or where
        it can't be had, which the account tells."""
        exchange, section = self._exchange, self._exchange.policy.compress
        if section is None or exchange.endpoint == "embeddings":
            return exchange.body
        found = await self._once(section)
        exchange.skills["compress"] = found.account()
        exchange.spared = found.spared
        return rewritten(exchange.body, found.done.texts) if found.done.texts else exchange.body

    async def _once(self, section: Compress) -> Compression:
        """Retries, continuations and shadows have the same."""
        body = self._exchange.body
        key = section, self._values(), orjson.dumps(body.get("messages", body.get("prompt")))
        found: Compression | None = self._exchange.compressions.get(key)
        if found is None:
            try:
                found = await self.compressed(body, section)
            except Closed:
                raise
            except Unavailable as lost:
                found = Compression(Compressed({}, 0, 0, 0, lost.why))
            except asyncio.CancelledError:
                if not self._calling.out_of_time():
                    raise
                found = Compression(Compressed({}, 0, 0, 0, "ceiling"))
            self._exchange.compressions[key] = found
        return found

    async def compressed(self, body: Body, section: Compress) -> Compression:
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
        pair: list[Pair] = []

        most = self._most(section)
        bare = exchange.passages.bare if exchange.passages is not None else None
        keep = Keep(section.keep, self._values())

        async def work(reader: Surprises) -> Compressed:
            if len(keep.whole) > MOST_VALUES:
                raise Unavailable("private", "slm", "too much of the prompt is private")

            async def why_not(plan: Plan) -> str:
                pair[:] = [await self._pair(reader, plan.sample)]
                estimates[:] = [estimated(plan.reads, plan.before, plan.target, *pair)]
                return estimates[0].why_not(section.worth, most)

            try:
                async with asyncio.timeout(most):
                    size = len(exchange.raw)
                    found = await in_thread(turns, body, keep, system=section.system, bare=bare, size=size)
                    return await compress(found, goal, reader, why_not)
            except TimeoutError as over:
                raise Unavailable("timeout", "slm", f"the prompt was not read within {most:g} s") from over

        done = await reading(exchange, self._calling, ASK, work)
        call = next(call for call in reversed(exchange.calls) if call.ask is ASK)
        self._slm(call.upstream).pace.read(call.usage.prompt_tokens, call.seconds)
        saved = -call.cost_usd
        if pair and done.texts:
            saved += estimated(0, done.before, done.after, *pair).spared_usd
        return Compression(done, next(iter(estimates), None), time.perf_counter() - began, saved)

    def _values(self) -> tuple[str, ...]:
        """What is private, and found and hidden once the text leaves."""
        found = [one.values for one in self._exchange.transforms if isinstance(one, Privacy)]
        return tuple(value for values in found for value in values)

    def _most(self, section: Compress) -> float:
        """Seconds: half of what the exchange may take is left for its answer."""
        limit = self._exchange.policy.ceilings.seconds
        return section.seconds if limit is None else min(section.seconds, limit / 2.0)

    async def _pair(self, reader: Surprises, sample: str) -> Pair:
        """Measures how fast the small model reads where that is not known yet."""
        slm = self._slm()
        if slm.pace.scored is None:
            began, read = time.perf_counter(), reader.read
            await reader.surprises(sample[:SAMPLE])
            slm.pace.read(reader.read - read, time.perf_counter() - began)
        pool = self._pools.get("llm")
        llm = pool.first(self._exchange.needs._replace(tokens=0)) if pool else None
        return Pair(
            slm.pace.scored or 0.0, llm.pace.prefill if llm else 0.0, slm.price, llm.price if llm else FREE
        )

    def _slm(self, name: str = "") -> Upstream:
        """Who reads: by name, or who is asked first."""
        pool = self._pools["slm"]
        named = next((one for one in pool.upstreams if one.name == name), None)
        return named or pool.first(READING, up=True) or pool.upstreams[0]
