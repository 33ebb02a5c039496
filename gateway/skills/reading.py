"""How a skill has a small model read texts: one call of the exchange's account, through its one door."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import orjson

from gateway.calling import Calling, check_fit, failed
from gateway.exchange import Call, Exchange
from gateway.needs import Needs
from gateway.skills.surprise import Surprises, Unspelled
from gateway.upstreams.transport import Broken
from gateway.upstreams.upstream import Upstream
from gateway.whole import MISSHAPEN
from gateway.wire import Body
from routers.plan import Judge, Skill, Unavailable, Usage

READING = Needs(surprises=True)

T = TypeVar("T")


async def reading(
    exchange: Exchange, calling: Calling, ask: Skill | Judge, work: Callable[[Surprises], Awaitable[T]]
) -> T:
    """What `work` gives with one of the tier's models to read for it. Raises Unavailable; `incapable` where no server
    of the tier tells the log-probabilities of a text."""

    async def attempt(call: Call, upstream: Upstream, last: bool) -> T:
        read = 0
        try:
            check_fit(upstream, READING)
            reader = _reader(calling, upstream)
            call.sent = exchange.elapsed()
            try:
                found = await work(reader)
            finally:
                read = reader.read
            upstream.worked()
            return found
        except asyncio.CancelledError:
            raise failed(call, calling.cut_off(call)) from None
        except Unspelled as error:
            raise failed(call, Unavailable("incapable", ask.tier, f"{upstream.name}: {error}")) from error
        except (Broken, *MISSHAPEN) as error:
            upstream.broke()
            why = error.why if isinstance(error, Broken) else "garbage"
            raise failed(call, Unavailable(why, ask.tier, f"{upstream.name}: {error}")) from error
        except Unavailable as lost:
            raise failed(call, lost)  # noqa: B904  it is the same
        finally:
            call.settle(exchange.elapsed(), Usage(read))

    return await calling.in_turn(ask, READING, attempt)


def _reader(calling: Calling, upstream: Upstream) -> Surprises:
    async def post(page: str, body: Body) -> Body:
        answer: Body = orjson.loads(await calling.told(upstream, page, body))
        return answer

    assert upstream.scorer is not None  # noqa: S101  it fits
    return Surprises(upstream.scorer, upstream.model, upstream.context, post)
