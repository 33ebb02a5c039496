"""Reads a text's token log-probabilities from a model, as one call of the exchange."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.engine.attempt import Attempt
from gateway.engine.dispatch import Dispatcher
from gateway.exchange.exchange import Exchange
from gateway.skills.compress.surprisal import SurprisalReader, TokenTextMismatch
from gateway.upstreams.transport.transport import TransportError
from gateway.wire.body_types import Body
from gateway.wire.requirements import Requirements
from routers.plan import Judge, Skill, Unavailable, Usage

MAX_REQUESTS = 1024
"""Maximum requests of one reading: one for each window of a long text, and those that split it into tokens."""
SURPRISAL_REQUIREMENTS = Requirements(surprisal=True)

T = TypeVar("T")


async def score_text(
    exchange: Exchange,
    dispatcher: Dispatcher,
    ask: Skill | Judge,
    read: Callable[[SurprisalReader], Awaitable[T]],
) -> T:
    """Call `read` with a reader that gets token log-probabilities from an upstream of the tier; return its result.

    Raises Unavailable; its reason is `incapable` if no upstream of the tier reports the log-probabilities of a text.
    """

    async def perform(attempt: Attempt) -> T:
        upstream = attempt.upstream
        reader = _open_reader(dispatcher, attempt)
        attempt.call.sent = exchange.elapsed()
        try:
            result = await read(reader)
        except TokenTextMismatch as error:
            raise Unavailable("incapable", ask.tier, f"{upstream.name}: {error}") from error
        except TransportError:
            upstream.record_failure()
            raise
        finally:
            attempt.call.usage = Usage(reader.tokens_read)
        upstream.record_success()
        return result

    return await dispatcher.dispatch(ask, SURPRISAL_REQUIREMENTS, perform)


def _open_reader(dispatcher: Dispatcher, attempt: Attempt) -> SurprisalReader:
    upstream, call = attempt.upstream, attempt.call
    requests = 0

    async def post(page: str, body: Body) -> Body:
        nonlocal requests
        requests += 1
        if requests > MAX_REQUESTS:
            what = f"{upstream.name}: reading the text takes more than {MAX_REQUESTS} requests"
            raise Unavailable("ceiling", call.tier, what)
        dispatcher.check_reading(call, reader.tokens_read)
        return await dispatcher.fetch(upstream, page, body)

    assert upstream.scorer is not None  # noqa: S101  SURPRISAL_REQUIREMENTS demand it
    reader = SurprisalReader(upstream.scorer, upstream.model, upstream.context_length, post)
    return reader
