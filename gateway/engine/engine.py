"""Answers exchanges, and performs tasks that nobody gets a reply of: the gateway's one engine."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from gateway.errors import internal_error
from gateway.exchange.exchange import Exchange
from gateway.timers import Deadlines, Shutdown
from gateway.upstreams.pool import Pool
from routers.plan import Tier, Unavailable

from .reply import NullReply, Reply
from .runner import Runner, note_cancellation, note_error, note_failure

T = TypeVar("T")
Task = Callable[[Runner], Awaitable[T]]
"""What a runner does for an exchange without a reply: run a fragment of a plan, or a skill by itself."""


class AccountedFault(Exception):
    """An unexpected exception, its cause, in work for an exchange. The exchange is counted as failed."""


class Engine:
    """Performs exchanges on the upstreams. `leave` gets each exchange once, when it is over, however it ended."""

    def __init__(
        self, pools: Mapping[Tier, Pool], leave: Callable[[Exchange], None], shutdown: Shutdown | None = None
    ) -> None:
        self.pools = pools
        self._leave = leave
        self._shutdown = shutdown or Shutdown()
        self._deadlines = Deadlines()

    def run(self, exchange: Exchange, reply: Reply) -> Awaitable[None]:
        """Answer the exchange into the reply. An exchange without an answer gets an error."""
        return self._create_runner(exchange, reply).answer(self._leave)

    def _create_runner(self, exchange: Exchange, reply: Reply) -> Runner:
        return Runner(self.pools, exchange, reply, self._deadlines, self._shutdown)

    async def perform(self, exchange: Exchange, task: Task[T]) -> T:
        """Return what a task gives for an exchange that nobody gets a reply of.

        Its calls are admitted and accounted for as all others. Raises Unavailable, AccountedFault.
        """
        try:
            return await task(self._create_runner(exchange, NullReply(exchange)))
        except Unavailable as failure:
            note_failure(exchange, failure)
            raise
        except asyncio.CancelledError:
            note_cancellation(exchange, self._shutdown)
            raise
        except Exception as error:
            note_error(exchange, internal_error())
            raise AccountedFault from error
        finally:
            exchange.seconds = exchange.elapsed()
            exchange.account()
            self._leave(exchange)
