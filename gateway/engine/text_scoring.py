"""How a skill has a small model read texts: one call of the exchange's account, through its one door."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import orjson

from gateway.exchange.exchange import Call, Exchange
from gateway.skills.compress.surprisal import Surprises, Unspelled
from gateway.upstreams.transport.garbage import parsing
from gateway.upstreams.transport.transport import Broken
from gateway.upstreams.upstream import Upstream
from gateway.wire.requirements import Needs
from gateway.wire.shapes import Body
from routers.plan import Judge, Skill, Unavailable, Usage

from .dispatch import Calling

READING = Needs(surprises=True)

T = TypeVar("T")


async def reading(
    exchange: Exchange, calling: Calling, ask: Skill | Judge, work: Callable[[Surprises], Awaitable[T]]
) -> T:
    """What `work` gives with one of the tier's models to read for it. Raises Unavailable; `incapable` where no server
    of the tier tells the log-probabilities of a text."""

    async def attempt(call: Call, upstream: Upstream, last: bool) -> T:
        async with calling.accounted(call, upstream, READING):
            reader = _reader(calling, upstream)
            call.sent = exchange.elapsed()
            try:
                found = await work(reader)
            except Unspelled as error:
                raise Unavailable("incapable", ask.tier, f"{upstream.name}: {error}") from error
            except Broken:
                upstream.broke()
                raise
            finally:
                call.usage = Usage(reader.read)
            upstream.worked()
            return found

    return await calling.in_turn(ask, READING, attempt)


def _reader(calling: Calling, upstream: Upstream) -> Surprises:
    async def post(page: str, body: Body) -> Body:
        answer = await calling.told(upstream, page, body)
        with parsing("JSON"):
            found: Body = orjson.loads(answer)
            return found

    assert upstream.scorer is not None  # noqa: S101  it fits
    return Surprises(upstream.scorer, upstream.model, upstream.context, post)
