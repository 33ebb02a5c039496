"""Answers exchanges: runs each plan, and settles how the exchange ends."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from gateway.errors import ApiError, internal_error
from gateway.exchange.error_mapping import to_api_error
from gateway.exchange.exchange import Exchange
from gateway.exchange.guard_report import report_guard
from gateway.timers import Deadlines
from gateway.upstreams.pool import Pool
from routers.plan import Tier, Unavailable

from .reply import NullReply, Reply
from .runner import Runner

log = logging.getLogger(__name__)

T = TypeVar("T")
Task = Callable[[Runner], Awaitable[T]]
"""What a runner does for an exchange that nobody gets a reply of: run a fragment of a plan, or a skill by itself."""

CLIENT_GONE = 499
"""The status of an exchange whose client has left, as nginx has it. Nobody receives it."""


class AccountedFault(Exception):
    """An unexpected exception, its cause, in work for an exchange. The exchange is counted as failed."""


class Engine:
    """Answers exchanges. `leave` gets each exchange once, when it is over, however it ended."""

    def __init__(self, pools: Mapping[Tier, Pool], leave: Callable[[Exchange], None]) -> None:
        self.pools = pools
        self._leave = leave
        self._deadlines = Deadlines()

    async def run(self, exchange: Exchange, reply: Reply) -> None:
        """Answer the exchange into the reply. An exchange without an answer gets an error."""
        runner = Runner(self.pools, exchange, reply, self._deadlines)
        try:
            exchange.answer = await runner.run(exchange.policy.plan(exchange.request))
            await runner.conclude(exchange.answer)
        except Unavailable as failure:
            await reply.fail(_note_failure(exchange, failure))
        except asyncio.CancelledError:
            exchange.cancelled, exchange.status = True, CLIENT_GONE
            raise
        except Exception:
            log.exception("exchange %s failed", exchange.id)
            await reply.fail(_note_error(exchange, internal_error()))
        finally:
            exchange.seconds = exchange.elapsed()
            if exchange.answer is None:
                exchange.account()
            self._leave(exchange)

    async def perform(self, exchange: Exchange, task: Task[T]) -> T:
        """Return what a task gives for an exchange that nobody gets a reply of.

        Its calls are admitted and accounted for as all others. Raises Unavailable, AccountedFault.
        """
        try:
            return await task(Runner(self.pools, exchange, NullReply(exchange), self._deadlines))
        except Unavailable as failure:
            _note_failure(exchange, failure)
            raise
        except asyncio.CancelledError:
            exchange.cancelled, exchange.status = True, CLIENT_GONE
            raise
        except Exception as error:
            _note_error(exchange, internal_error())
            raise AccountedFault from error
        finally:
            exchange.seconds = exchange.elapsed()
            exchange.account()
            self._leave(exchange)


def _note_failure(exchange: Exchange, failure: Unavailable) -> ApiError:
    report_guard(exchange)
    messages = [call.message for call in exchange.calls if call.message]
    return _note_error(exchange, to_api_error(failure, messages))


def _note_error(exchange: Exchange, error: ApiError) -> ApiError:
    exchange.status, exchange.error = error.status, error.code
    return error
