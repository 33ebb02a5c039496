"""The ledger: counts, remembers and records exchanges that have ended."""

import asyncio
import logging

from gateway.exchange.call import Call
from gateway.exchange.exchange import Exchange
from gateway.state.exchanges import Exchanges

from .account_values import clean_account, encode_compact
from .metrics import Metrics
from .record_lines import build_exchange_line
from .record_writer import Recorder

log = logging.getLogger(__name__)

BATCH_PERIOD_S = 0.05
"""Maximum seconds that an exchange waits to be booked. Booking in batches takes half the CPU of booking one
by one, since the code stays in the processor's caches."""


class Ledger:
    """Books exchanges in batches. Call `book` before reading metrics or exchanges."""

    def __init__(self, metrics: Metrics, exchanges: Exchanges, recorder: Recorder | None) -> None:
        self._metrics = metrics
        self._exchanges = exchanges
        self._recorder = recorder
        self._ended: list[Exchange] = []

    def add(self, exchange: Exchange) -> None:
        if not self._ended:
            asyncio.get_running_loop().call_later(BATCH_PERIOD_S, self.book)
        self._ended.append(exchange)

    def book(self) -> None:
        ended, self._ended = self._ended, []
        for exchange in ended:
            try:
                self._book(exchange)
            except Exception:  # a failure must not lose the rest of the batch
                log.exception("exchange %s could not be booked", exchange.id)
                self._metrics.count_dropped_record()

    def _book(self, exchange: Exchange) -> None:
        """Count the costs first: whatever fails after that, the dollars are not lost."""
        clean_account(exchange)
        self._count_calls(exchange)
        if exchange.shadow_of is None:
            self._count_request(exchange)
        line = build_exchange_line(exchange)
        summary = encode_compact(line)
        self._exchanges.add(exchange.id, summary)
        evaluation = exchange.skills.get("evaluate")
        if evaluation is not None and exchange.shadow_of is not None:
            self._exchanges.add_evaluation(exchange.shadow_of, exchange.id, evaluation["results"])
        if self._recorder is not None:
            self._recorder.add(exchange, line, summary)

    def _count_calls(self, exchange: Exchange) -> None:
        for call in exchange.calls:
            if call.upstream:
                self._count_call(call)

    def _count_request(self, exchange: Exchange) -> None:
        answer = exchange.answer
        self._metrics.count_exchange(
            policy=exchange.policy.name,
            endpoint=exchange.surface,
            route=exchange.route,
            reason=answer.reason if answer else exchange.error_reason or _fallback_reason(exchange),
            status=exchange.status,
            seconds=exchange.seconds,
            overhead=max(0.0, exchange.seconds - exchange.upstream_wait_s),
            ttft=exchange.ttft,
            confidence=answer.confidence if answer else None,
            saved_usd=exchange.saved_usd,
            uncalibrated=exchange.is_uncalibrated,
        )
        if answer is not None and answer.speculation is not None:
            speculation = exchange.speculation()
            self._metrics.count_speculation(
                policy=exchange.policy.name,
                blocks=speculation["blocks"],
                drafted=speculation["drafted"],
                accepted=speculation["accepted"],
                written=speculation["llm_tokens"],
                alone=speculation["llm_tokens_alone"],
            )

    def _count_call(self, call: Call) -> None:
        self._metrics.count_call(
            upstream=call.upstream,
            tier=call.tier,
            model=call.model,
            outcome=call.outcome,
            prompt_tokens=call.usage.prompt_tokens,
            completion_tokens=call.usage.completion_tokens,
            cost_usd=call.cost_usd,
        )
        if call.retried:
            self._metrics.count_retry(call.upstream, call.tier)


def _fallback_reason(exchange: Exchange) -> str:
    """Return the reason for an exchange with neither an answer nor an error."""
    return "cancelled" if exchange.cancelled or exchange.aside is None else exchange.aside
