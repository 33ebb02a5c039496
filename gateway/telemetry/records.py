"""Writes records in a thread of its own: a request never waits for the disk."""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import orjson

from gateway.exchange import Call, Exchange
from gateway.settings import Records
from policies.tuning.records import PolicyLine

log = logging.getLogger(__name__)

PERIOD = 0.2
"""Seconds between writes: one wake-up serves all exchanges since the last."""


class Recorder:
    """Takes exchanges that are over, and appends their lines to `<path>/<day>-<pid>.jsonl`.

    The queue is bounded: when it is full the record is dropped and `on_drop` called, the request not delayed.
    """

    def __init__(self, settings: Records, folder: Path, on_drop: Callable[[], None]) -> None:
        self._folder = folder
        self._content = settings.content
        self._most = settings.queue
        self._on_drop = on_drop
        self._queue: deque[Exchange] = deque()
        self._stop = threading.Event()
        self._files: dict[Path, set[str]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._work, name="records", daemon=True)
        self._thread.start()

    def add(self, exchange: Exchange) -> None:
        if len(self._queue) >= self._most:
            self._on_drop()
            exchange.forget()
            return
        self._queue.append(exchange)

    def close(self) -> None:
        """Writes what is queued, then ends."""
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop.wait(PERIOD):
            self._write_queued()
        self._write_queued()

    def _write_queued(self) -> None:
        if not self._queue:
            return
        path = self._folder / f"{time.strftime('%Y%m%d')}-{os.getpid()}.jsonl"
        try:
            with path.open("ab") as file:
                while self._queue:
                    exchange = self._queue.popleft()
                    self._write(file, path, exchange)
                    exchange.forget()
        except OSError as error:
            log.error("records: %s: %s", path, error.strerror)
            self._on_drop()

    def _write(self, file: IO[bytes], path: Path, exchange: Exchange) -> None:
        policy = exchange.policy
        known = self._files.setdefault(path, set())
        if policy.digest not in known:
            known.add(policy.digest)
            file.write(PolicyLine(digest=policy.digest, policy=policy).model_dump_json().encode() + b"\n")
        content = exchange.body if self._content else None
        file.write(orjson.dumps(exchange_line(exchange, content), option=orjson.OPT_APPEND_NEWLINE))


def exchange_line(exchange: Exchange, content: dict[str, Any] | None) -> dict[str, Any]:
    """An ExchangeLine, as plain values. `content` is the request's body where content is recorded."""
    answer = exchange.answer
    return {
        "type": "exchange",
        "id": exchange.id,
        "at": exchange.at,
        "endpoint": exchange.endpoint,
        "policy": exchange.policy.name,
        "digest": exchange.policy.digest,
        "request": {
            "stream": exchange.request.stream,
            "judgeable": exchange.request.judgeable,
            "tiers": sorted(exchange.request.tiers),
        },
        "calls": [_call_line(call, content is not None) for call in exchange.calls],
        "answer": answer
        and {"route": answer.route, "reason": answer.reason, "confidence": answer.confidence},
        "status": exchange.status,
        "error": exchange.error,
        "cancelled": exchange.cancelled,
        "cost_usd": exchange.cost_usd,
        "llm_alone_usd": exchange.alone_usd,
        "alone_price": exchange.alone_price and exchange.alone_price.model_dump(),
        "seconds": exchange.seconds,
        "ttft": exchange.ttft,
        "tags": exchange.tags,
        "content": content,
    }


def _call_line(call: Call, with_text: bool) -> dict[str, Any]:
    return {
        "tier": call.tier,
        "upstream": call.upstream,
        "model": call.model,
        "because": call.ask.because,
        "outcome": call.outcome,
        "finish": call.finish,
        "usage": asdict(call.usage),
        "price": call.price.model_dump(),
        "cost_usd": call.cost_usd,
        "started": call.started,
        "seconds": call.seconds,
        "verdict": call.verdict,
        "reason": call.reason,
        "confidence": call.confidence,
        "kept": call.kept,
        "begun": call.begun,
        "tokens": _tokens_line(call, with_text) if call.ask.watch is not None else None,
    }


def _tokens_line(call: Call, with_text: bool) -> dict[str, Any]:
    numbers: dict[str, int] = {}
    return {
        "ids": [numbers.setdefault(token.text, len(numbers)) for token in call.tokens],
        "logprobs": [token.logprob for token in call.tokens],
        "top": [list(token.top) for token in call.tokens],
        "at": [round(at, 6) for at in call.at],
        "texts": [token.text for token in call.tokens] if with_text else None,
    }
