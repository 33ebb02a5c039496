"""The ledger: counts, remembers and records exchanges that have ended."""

import asyncio
import logging

from gateway.exchange.exchange import Call, Exchange
from gateway.state.exchanges import Exchanges

from .metrics import Metrics
from .record_writer import Recorder, compact, exchange_line

log = logging.getLogger(__name__)

PERIOD = 0.05
"""Maximum seconds that an exchange waits to be booked. Booking in batches takes half the CPU of booking one
by one, since the code stays in the processor's caches."""


class Ledger:
    """Books exchanges in batches. Call `book` before reading metrics or exchanges."""

    def __init__(self, metrics: Metrics, exchanges: Exchanges, recorder: Recorder | None) -> None:
        self._metrics = metrics
        self._exchanges = exchanges
        self._recorder = recorder
        self._over: list[Exchange] = []

    def leave(self, exchange: Exchange) -> None:
        if not self._over:
            asyncio.get_running_loop().call_later(PERIOD, self.book)
        self._over.append(exchange)

    def book(self) -> None:
        over, self._over = self._over, []
        for exchange in over:
            try:
                self._book(exchange)
            except Exception:  # a failure must not lose the rest of the batch
                log.exception("exchange %s could not be booked", exchange.id)
                self._metrics.record_dropped()

    def _book(self, exchange: Exchange) -> None:
        self._count(exchange)
        line = exchange_line(exchange)
        summary = compact(line)
        self._exchanges.add(exchange.id, summary)
        found = exchange.skills.get("evaluate")
        if found is not None and exchange.shadow_of is not None:
            self._exchanges.evaluated(exchange.shadow_of, exchange.id, found["results"])
        if self._recorder is not None:
            self._recorder.add(exchange, line, summary)

    def _count(self, exchange: Exchange) -> None:
        if exchange.shadow_of is None:
            self._count_request(exchange)
        for call in exchange.calls:
            if call.upstream:
                self._count_call(call)

    def _count_request(self, exchange: Exchange) -> None:
        answer = exchange.answer
        self._metrics.exchange(
            policy=exchange.policy.name,
            endpoint=exchange.surface,
            route=exchange.route,
            reason=answer.reason if answer else exchange.error or _instead(exchange),
            status=exchange.status,
            seconds=exchange.seconds,
            overhead=max(0.0, exchange.seconds - exchange.waited),
            ttft=exchange.ttft,
            confidence=answer.confidence if answer else None,
            saved_usd=exchange.saved_usd,
        )
        if answer is not None and answer.speculation is not None:
            told = exchange.speculation()
            self._metrics.speculated(
                policy=exchange.policy.name,
                blocks=told["blocks"],
                drafted=told["drafted"],
                accepted=told["accepted"],
                written=told["llm_tokens"],
                alone=told["llm_tokens_alone"],
            )

    def _count_call(self, call: Call) -> None:
        self._metrics.call(
            upstream=call.upstream,
            tier=call.tier,
            model=call.model,
            outcome=call.outcome,
            prompt_tokens=call.usage.prompt_tokens,
            completion_tokens=call.usage.completion_tokens,
            cost_usd=call.cost_usd,
        )
        if call.retried:
            self._metrics.call_retried(call.upstream, call.tier)


def _instead(exchange: Exchange) -> str:
    """Return the reason for an exchange with neither an answer nor an error."""
    return "cancelled" if exchange.cancelled or exchange.aside is None else exchange.aside
