"""The latest exchanges' figures, for GET /v1/exchanges/{id}. They contain no prompt and no answer."""

from collections import OrderedDict
from typing import Any

import orjson

from policies.records.schema import AnswerLine, CallLine, ExchangeLine, InApi, Line, RequestLine, UsageLine

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


NO_ANSWER = {"route": "none", "reason": None, "confidence": None}


def to_api_object(line: dict[str, Any]) -> dict[str, Any]:
    """Convert a record line to the API's object: the fields marked `InApi`, and some that follow from them."""
    alone = line["llm_alone_usd"]
    return {
        "object": "smallfirst.exchange",
        "created": int(line["at"]),
        **_select_shown(ExchangeLine, line),
        **_select_shown(RequestLine, line["request"]),
        **_select_shown(AnswerLine, line["answer"] or NO_ANSWER),
        "saved_usd": None if alone is None else alone - line["cost_usd"],
        "calls": [
            _select_shown(CallLine, call) | _select_shown(UsageLine, call["usage"]) for call in line["calls"]
        ],
    }


def _select_shown(model: type[Line], line: dict[str, Any]) -> dict[str, Any]:
    return {
        mark.name or key: line[key]
        for key, field in model.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, InApi)
    }
