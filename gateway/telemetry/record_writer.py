"""Writes records in a thread of its own: a request never waits for the disk."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from gateway.exchange.call import Call
from gateway.exchange.captured import CapturedAnswer
from gateway.exchange.exchange import Exchange
from gateway.skills.privacy.screen import PrivacyScreen
from gateway.wire.body_types import Body, Endpoint
from policies.schema.policy import Policy
from routers.plan import Generate

from .record_file import RecordFile
from .record_lines import build_tokens_line
from .settings import RecordSettings

log = logging.getLogger(__name__)

WRITE_PERIOD_S = 0.2
"""Seconds between writes: one wake-up serves all exchanges since the last."""

MOST_KEPT = 64 * 1024 * 1024
"""Bytes of answers that may wait to be read; further records are written without theirs."""


class QueuedRecord(NamedTuple):
    """`line` is complete but for the answer in `kept`, which the thread reads, and `hides` redacts."""

    policy: Policy
    line: bytes
    answer: CapturedAnswer | None = None
    endpoint: Endpoint = "chat"
    redactor: PrivacyScreen | None = None

    def to_line(self) -> bytes:
        message = None if self.answer is None else self.answer.message(self.endpoint)
        if message is not None and self.redactor is not None:
            redacted = self.redactor.redact_for_record({"messages": [message]})
            message = redacted and redacted["messages"][0]
        return self.line if message is None else b'%b,"reply":%b}' % (self.line[:-1], orjson.dumps(message))


class Recorder:
    """Takes exchanges that are over, and appends their lines to the record file of the day.

    Lines are made as they are taken, which lets go of the exchange; the disk is the thread's. The queue is
    bounded: when it is full the record is dropped and `on_drop` called, the request not delayed.
    """

    def __init__(self, settings: RecordSettings, folder: Path, on_drop: Callable[[], None]) -> None:
        self._file = RecordFile(folder)
        self._content = settings.content
        self._max_queued = settings.queue
        self._on_drop = on_drop
        self._queue: deque[QueuedRecord] = deque()
        self._taken_bytes = self._read_bytes = (
            0  # bytes of answers: one is the loop's to count, the other the thread's
        )
        self._stop = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)
        self._thread.start()

    def add(self, exchange: Exchange, line: dict[str, Any], summary: bytes) -> None:
        """`line` is the exchange's and `summary` its JSON; tokens, and content where that is recorded, are put
        in here. Of a private exchange no content is."""
        if len(self._queue) >= self._max_queued:
            self._on_drop()
            return
        content, redactor = _recordable_body(exchange) if self._content else (None, None)
        if content is not None or any(map(_is_followed, exchange.calls)):
            line["content"] = content
            for call, row in zip(exchange.calls, line["calls"], strict=True):
                if _is_followed(call):
                    row["tokens"] = build_tokens_line(call, content is not None and redactor is None)
            summary = encode_compact(line)
        answer = None if content is None else self._take_answer(exchange)
        self._queue.append(QueuedRecord(exchange.policy, summary, answer, exchange.endpoint, redactor))

    def _take_answer(self, exchange: Exchange) -> CapturedAnswer | None:
        answer = exchange.captured
        if (
            answer is None
            or exchange.answer is None
            or self._taken_bytes - self._read_bytes + answer.size > MOST_KEPT
        ):
            return None
        self._taken_bytes += answer.size
        return answer

    def close(self) -> None:
        """Writes what is queued, then ends."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(WRITE_PERIOD_S):
            self._write_queued()
        self._write_queued()

    def _write_queued(self) -> None:
        if not self._queue:
            return
        batch = [self._queue.popleft() for _ in range(len(self._queue))]
        try:
            self._file.append([(one.policy, one.to_line()) for one in batch])
        except Exception as error:  # the thread must outlive whatever befalls a batch
            log.error("records: %s: %s", self._file.path, error)
            for _ in batch:
                self._on_drop()
        self._read_bytes += sum(one.answer.size for one in batch if one.answer is not None)


def _recordable_body(exchange: Exchange) -> tuple[Body | None, PrivacyScreen | None]:
    """A request as its record may keep it: nothing of what no cloud may see, and of what was redacted for clouds the
    redacted, with who redacts the answer as well; texts of its drafts are not recorded."""
    if exchange.private:
        return None, None
    for transform in exchange.transforms:
        if isinstance(transform, PrivacyScreen) and transform.has_findings:
            return transform.redact_for_record(exchange.body), transform
    return exchange.body, None


def _is_followed(call: Call) -> bool:
    return isinstance(call.ask, Generate) and call.ask.watch is not None


def encode_compact(line: dict[str, Any]) -> bytes:
    """A line's JSON in as many bytes as it has: orjson's own result keeps a buffer several times its size,
    and many lines are kept."""
    return bytes(memoryview(orjson.dumps(line)))
