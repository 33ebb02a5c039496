"""The latest exchanges' figures, for GET /v1/exchanges/{id}. They contain no prompt and no answer."""

from collections import OrderedDict
from typing import Any

import orjson

MAX_EXCHANGES = 10_000


class Exchanges:
    """Keeps the record lines of the last `max_exchanges` exchanges and drops the oldest first. They are kept
    as JSON, since every full garbage collection would traverse thousands of live objects."""

    def __init__(self, max_exchanges: int = MAX_EXCHANGES) -> None:
        self._max_exchanges = max_exchanges
        self._by_id: OrderedDict[str, bytes] = OrderedDict()
        self._evaluations: dict[str, bytes] = {}

    def add(self, exchange_id: str, line: bytes) -> None:
        """Add an exchange. `line` is its record line as JSON."""
        self._by_id[exchange_id] = line
        if len(self._by_id) > self._max_exchanges:
            oldest, _ = self._by_id.popitem(last=False)
            self._evaluations.pop(oldest, None)

    def add_evaluation(self, exchange_id: str, evaluation_id: str, results: list[dict[str, Any]]) -> None:
        """Add the results that the evaluation `evaluation_id` found for this exchange's answer."""
        if exchange_id in self._by_id:
            self._evaluations[exchange_id] = orjson.dumps({"id": evaluation_id, "results": results})

    def ids(self) -> set[str]:
        return set(self._by_id)

    def get(self, exchange_id: str) -> dict[str, Any] | None:
        line = self._by_id.get(exchange_id)
        if line is None:
            return None
        evaluation = self._evaluations.get(exchange_id)
        return to_api_object(orjson.loads(line)) | {"evaluation": evaluation and orjson.loads(evaluation)}


def to_api_object(line: dict[str, Any]) -> dict[str, Any]:
    """Convert a record line to the API's object."""
    answer = line["answer"] or {"route": "none", "reason": None, "confidence": None}
    alone = line["llm_alone_usd"]
    return {
        "id": line["id"],
        "object": "smallfirst.exchange",
        "created": int(line["at"]),
        "endpoint": line["endpoint"],
        "stream": line["request"]["stream"],
        "policy": line["policy"],
        **answer,
        "cost_usd": line["cost_usd"],
        "llm_alone_usd": alone,
        "saved_usd": None if alone is None else alone - line["cost_usd"],
        "status": line["status"],
        "error": line["error"],
        "cancelled": line["cancelled"],
        "seconds": line["seconds"],
        "time_to_first_token": line["ttft"],
        "speculation": line["speculation"],
        "skills": line["skills"],
        "aside": line["aside"],
        "tags": line["tags"],
        "shadow_of": line["shadow_of"],
        "calls": [_to_api_call(call) for call in line["calls"]],
    }


CALL_KEYS = (
    "ask",
    "tier",
    "upstream",
    "model",
    "because",
    "outcome",
    "retried",
    "verdict",
    "reason",
    "confidence",
    "finish",
)


def _to_api_call(call: dict[str, Any]) -> dict[str, Any]:
    usage = call["usage"]
    return {
        **{key: call[key] for key in CALL_KEYS},
        "prompt_tokens": usage["prompt_tokens"],
        "completion_tokens": usage["completion_tokens"],
        "estimated": usage["estimated"],
        "cost_usd": call["cost_usd"],
        "seconds": call["seconds"],
    }
