"""Writes records in a separate thread, so that requests never wait for the disk."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from gateway.exchange.call import Call
from gateway.exchange.captured import CapturedAnswer
from gateway.exchange.exchange import Exchange
from gateway.skills.privacy.screen import PrivacyScreen
from gateway.wire.body_types import Body, Endpoint
from policies.schema.policy import Policy
from routers.plan import Generate

from .account_values import encode, encode_compact
from .record_file import RecordFile
from .record_lines import build_tokens_line
from .settings import RecordSettings

log = logging.getLogger(__name__)

WRITE_PERIOD_S = 0.2
"""Seconds between writes. Each writes all exchanges since the last."""

MAX_QUEUED_ANSWER_BYTES = 64 * 1024 * 1024
"""Maximum bytes of queued answers. Beyond that, records are written without their answers."""


class QueuedRecord(NamedTuple):
    """A record that waits for the thread. `line` is complete except for the reply, which the thread reads from `answer`
    and has `redactor` redact."""

    policy: Policy
    line: bytes
    answer: CapturedAnswer | None = None
    endpoint: Endpoint = "chat"
    redactor: PrivacyScreen | None = None

    def to_line(self) -> bytes:
        """Return the whole line, with the reply if there is one."""
        try:
            message = self._read_message()
        except Exception:  # one odd answer must not lose the whole batch
            log.exception("an answer could not be recorded")
            return self.line
        return self.line if message is None else b'%b,"reply":%b}' % (self.line[:-1], encode(message))

    def _read_message(self) -> Body | None:
        message = None if self.answer is None else self.answer.message(self.endpoint)
        if message is None or self.redactor is None:
            return message if isinstance(message, dict) else None
        redacted = self.redactor.redact_for_record({"messages": [message]})
        return redacted and redacted["messages"][0]


class Recorder:
    """Appends the lines of ended exchanges to the day's record file.

    `add` encodes the line, so that no exchange is kept in memory, and the thread writes it. If the queue is full, the
    record is dropped and `on_drop` is called; the request is not delayed.
    """

    def __init__(self, settings: RecordSettings, folder: Path, on_drop: Callable[[], None]) -> None:
        self._file = RecordFile(folder)
        self._content = settings.content
        self._max_queued = settings.queue
        self._on_drop = on_drop
        self._queue: deque[QueuedRecord] = deque()
        self._added_bytes = 0  # of all answers so far; only the event loop writes it
        self._written_bytes = 0  # likewise; only the thread writes it
        self._stop = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)
        self._thread.start()

    def add(self, exchange: Exchange, line: dict[str, Any], summary: bytes) -> None:
        """Queue an exchange's record. `line` is its line and `summary` the same as JSON; tokens and content are added
        here. The content of a private exchange is never recorded."""
        if len(self._queue) >= self._max_queued:
            self._on_drop()
            return
        content, redactor = _select_recordable_body(exchange) if self._content else (None, None)
        if content is not None or any(map(_is_followed, exchange.calls)):
            line["content"] = content
            for call, row in zip(exchange.calls, line["calls"], strict=True):
                if _is_followed(call):
                    row["tokens"] = build_tokens_line(call, content is not None and redactor is None)
            summary = encode_compact(line)
        answer = None if content is None else self._take_answer(exchange)
        self._queue.append(QueuedRecord(exchange.policy, summary, answer, exchange.endpoint, redactor))

    def _take_answer(self, exchange: Exchange) -> CapturedAnswer | None:
        """Return the answer to record, or None if there is none or too many bytes are queued."""
        answer = exchange.captured
        if (
            answer is None
            or exchange.answer is None
            or self._added_bytes - self._written_bytes + answer.size > MAX_QUEUED_ANSWER_BYTES
        ):
            return None
        self._added_bytes += answer.size
        return answer

    def close(self) -> None:
        """Write what is queued, then end the thread."""
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
            self._file.append([(record.policy, record.to_line()) for record in batch])
        except Exception as error:  # the thread must outlive any failure
            log.error("records: %s: %s", self._file.path, error)
            for _ in batch:
                self._on_drop()
        self._written_bytes += sum(record.answer.size for record in batch if record.answer is not None)


def _select_recordable_body(exchange: Exchange) -> tuple[Body | None, PrivacyScreen | None]:
    """Return the request's body that may be recorded, and the screen that must redact the answer, if any.

    The body is None if no cloud may see the exchange, and redacted if it was redacted for clouds. In the latter case
    texts of drafts must not be recorded."""
    if exchange.private:
        return None, None
    for transform in exchange.transforms:
        if isinstance(transform, PrivacyScreen) and transform.has_findings:
            return transform.redact_for_record(exchange.body), transform
    return exchange.body, None


def _is_followed(call: Call) -> bool:
    """Return whether a watch followed the call, so that it has tokens to record."""
    return isinstance(call.ask, Generate) and call.ask.watch is not None
