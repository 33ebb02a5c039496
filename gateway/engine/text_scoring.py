"""How a skill has a small model read texts: one call of the exchange's account, through its one door."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import orjson

from gateway.exchange.exchange import Call, Exchange
from gateway.skills.compress.surprisal import SurprisalReader, TokenTextMismatch
from gateway.upstreams.transport.malformed import parsing
from gateway.upstreams.transport.transport import TransportError
from gateway.upstreams.upstream import Upstream
from gateway.wire.body_types import Body
from gateway.wire.requirements import Requirements
from routers.plan import Judge, Skill, Unavailable, Usage

from .dispatch import Dispatcher

SURPRISAL_REQUIREMENTS = Requirements(surprisal=True)

T = TypeVar("T")


async def score_text(
    exchange: Exchange,
    calling: Dispatcher,
    ask: Skill | Judge,
    work: Callable[[SurprisalReader], Awaitable[T]],
) -> T:
    """What `work` gives with one of the tier's models to read for it. Raises Unavailable; `incapable` where no server
    of the tier tells the log-probabilities of a text."""

    async def attempt(call: Call, upstream: Upstream, last: bool) -> T:
        async with calling.accounted(call, upstream, SURPRISAL_REQUIREMENTS):
            reader = _open_reader(calling, upstream)
            call.sent = exchange.elapsed()
            try:
                found = await work(reader)
            except TokenTextMismatch as error:
                raise Unavailable("incapable", ask.tier, f"{upstream.name}: {error}") from error
            except TransportError:
                upstream.record_failure()
                raise
            finally:
                call.usage = Usage(reader.tokens_read)
            upstream.record_success()
            return found

    return await calling.dispatch(ask, SURPRISAL_REQUIREMENTS, attempt)


def _open_reader(calling: Dispatcher, upstream: Upstream) -> SurprisalReader:
    async def post(page: str, body: Body) -> Body:
        answer = await calling.fetch(upstream, page, body)
        with parsing("JSON"):
            found: Body = orjson.loads(answer)
            return found

    assert upstream.scorer is not None  # noqa: S101  it fits
    return SurprisalReader(upstream.scorer, upstream.model, upstream.context_length, post)
