"""Writes records in a thread of its own: a request never waits for the disk."""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from gateway.exchange import Call, Exchange
from gateway.settings import Records
from policies.schema import Policy
from policies.tuning.records import PolicyLine

log = logging.getLogger(__name__)

PERIOD = 0.2
"""Seconds between writes: one wake-up serves all exchanges since the last."""


class Recorder:
    """Takes exchanges that are over, and appends their lines to `<path>/<day>-<pid>.jsonl`.

    Lines are made at once, which takes microseconds and lets go of the exchange; the disk is the thread's. The
    queue is bounded: when it is full the record is dropped and `on_drop` called, the request not delayed.
    """

    def __init__(self, settings: Records, folder: Path, on_drop: Callable[[], None]) -> None:
        self._folder = folder
        self._content = settings.content
        self._most = settings.queue
        self._on_drop = on_drop
        self._queue: deque[tuple[Policy, bytes]] = deque()
        self._stop = threading.Event()
        self._known: set[tuple[Path, str]] = set()
        folder.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._work, name="records", daemon=True)
        self._thread.start()

    def add(self, exchange: Exchange, line: dict[str, Any]) -> None:
        """`line` is the exchange's; its tokens, and its content where that is recorded, are put in here."""
        if len(self._queue) >= self._most:
            self._on_drop()
            return
        if self._content:
            line["content"] = exchange.body
        for call, row in zip(exchange.calls, line["calls"], strict=True):
            if call.ask.watch is not None:
                row["tokens"] = _tokens_line(call, self._content)
        self._queue.append((exchange.policy, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)))

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
        batch = [self._queue.popleft() for _ in range(len(self._queue))]
        try:
            with path.open("ab") as file:
                file.write(b"".join(self._introduced(path, policy) + line for policy, line in batch))
        except OSError as error:
            log.error("records: %s: %s", path, error.strerror)
            for _ in batch:
                self._on_drop()

    def _introduced(self, path: Path, policy: Policy) -> bytes:
        """The policy's own line, before the first exchange of a file that names it."""
        if (path, policy.digest) in self._known:
            return b""
        self._known.add((path, policy.digest))
        return PolicyLine(digest=policy.digest, policy=policy).model_dump_json().encode() + b"\n"


def exchange_line(exchange: Exchange) -> dict[str, Any]:
    """An ExchangeLine as plain values, without tokens and content."""
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
        "calls": [_call_line(call) for call in exchange.calls],
        "answer": answer
        and {"route": answer.route, "reason": answer.reason, "confidence": answer.confidence},
        "status": exchange.status,
        "error": exchange.error,
        "cancelled": exchange.cancelled,
        "cost_usd": exchange.cost_usd,
        "llm_alone_usd": exchange.alone_usd,
        "alone_price": exchange.alone_price and exchange.alone_price.fields,
        "seconds": exchange.seconds,
        "ttft": exchange.ttft,
        "tags": exchange.tags,
    }


def _call_line(call: Call) -> dict[str, Any]:
    return {
        "tier": call.tier,
        "upstream": call.upstream,
        "model": call.model,
        "because": call.ask.because,
        "resumed": bool(call.ask.prefix),
        "outcome": call.outcome,
        "finish": call.finish,
        "usage": call.usage._asdict(),
        "price": call.price.fields,
        "cost_usd": call.cost_usd,
        "started": call.started,
        "seconds": call.seconds,
        "verdict": call.verdict,
        "reason": call.reason,
        "confidence": call.confidence,
        "kept": call.kept,
        "begun": call.begun,
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
