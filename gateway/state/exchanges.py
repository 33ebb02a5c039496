"""The latest exchanges' figures, for GET /v1/exchanges/{id}: no prompt, no answer."""

from collections import OrderedDict
from typing import Any

from gateway.exchange import Call, Exchange

KEPT = 10_000


class Exchanges:
    """The last `kept` exchanges, oldest forgotten first."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._by_id: OrderedDict[str, Exchange] = OrderedDict()

    def add(self, exchange: Exchange) -> None:
        self._by_id[exchange.id] = exchange
        if len(self._by_id) > self._kept:
            self._by_id.popitem(last=False)

    def ids(self) -> set[str]:
        return set(self._by_id)

    def get(self, exchange_id: str) -> dict[str, Any] | None:
        exchange = self._by_id.get(exchange_id)
        return None if exchange is None else described(exchange)


def described(exchange: Exchange) -> dict[str, Any]:
    return {
        **exchange.figures(),
        "object": "smallfirst.exchange",
        "created": int(exchange.at),
        "endpoint": exchange.endpoint,
        "stream": exchange.request.stream,
        "status": exchange.status,
        "error": exchange.error,
        "cancelled": exchange.cancelled,
        "seconds": exchange.seconds,
        "time_to_first_token": exchange.ttft,
        "calls": [_call(call) for call in exchange.calls],
    }


def _call(call: Call) -> dict[str, Any]:
    return {
        "tier": call.tier,
        "upstream": call.upstream,
        "model": call.model,
        "because": call.ask.because,
        "outcome": call.outcome,
        "verdict": call.verdict,
        "reason": call.reason,
        "confidence": call.confidence,
        "finish": call.finish,
        "prompt_tokens": call.usage.prompt_tokens,
        "completion_tokens": call.usage.completion_tokens,
        "estimated": call.usage.estimated,
        "cost_usd": call.cost_usd,
        "seconds": call.seconds,
    }
