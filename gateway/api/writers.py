"""Writes an exchange's reply: one plain response, or one well-formed stream, whichever models wrote it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

import orjson

from gateway.engine.streams.chunks import parse_block
from gateway.errors import ApiError
from gateway.exchange.exchange import Exchange
from gateway.timers import Deadlines
from gateway.wire import sse
from gateway.wire.body_types import Body, Event, read_event
from gateway.wire.fast_chunks import replace_id
from gateway.wire.responses import assemble_response, text_of

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


def build_figure_headers(exchange: Exchange) -> Headers:
    """Return the `x-smallfirst-` headers of what is known now. Dollars have nine decimals."""
    headers: Headers = [
        (b"x-smallfirst-id", exchange.id.encode()),
        (b"x-smallfirst-policy", exchange.policy.name.encode()),
    ]
    if exchange.is_uncalibrated:
        headers.append((b"x-smallfirst-calibration", b"uncalibrated"))
    if exchange.left_out:
        headers.append((b"x-smallfirst-left-out", ", ".join(exchange.left_out).encode()))
    if exchange.skills:
        headers += [_build_skill_header(name, report) for name, report in exchange.skills.items()]
    if (answer := exchange.answer) is None:
        return headers + (_build_decision_headers(*exchange.decided) if exchange.decided else [])
    headers += _build_decision_headers(answer.route, answer.reason, answer.confidence)
    headers.append((b"x-smallfirst-cost-usd", b"%.9f" % exchange.cost_usd))
    if (saved := exchange.saved_usd) is not None:
        headers.append((b"x-smallfirst-saved-usd", b"%.9f" % saved))
    if answer.speculation is not None:
        pairs = ", ".join([f"{name}={value}" for name, value in exchange.speculation().items()])
        headers.append((b"x-smallfirst-speculation", pairs.encode()))
    return headers


def _build_skill_header(name: str, report: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Return the header of a skill's report. Lists and objects are left out: only the record and the API have them."""
    pairs = [f"{key}={value}" for key, value in report.items() if not isinstance(value, list | dict)]
    return b"x-smallfirst-" + name.encode(), ", ".join(pairs).encode("ascii", "replace")


def _build_decision_headers(route: str, reason: str, confidence: float | None) -> Headers:
    headers = [(b"x-smallfirst-route", route.encode()), (b"x-smallfirst-reason", reason.encode())]
    if confidence is not None:
        headers.append((b"x-smallfirst-confidence", b"%.4f" % confidence))
    return headers


async def respond(send: Send, status: int, headers: Headers, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def respond_error(send: Send, error: ApiError, headers: Headers | None = None) -> None:
    headers = [*(headers or ()), *build_error_headers(error)]
    await respond(send, error.status, headers, orjson.dumps(error.body()))


def build_error_headers(error: ApiError) -> Headers:
    """Return the headers that say whether, and when, to try again."""
    headers: Headers = []
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after))))
    if not error.should_retry:
        headers.append((b"x-should-retry", b"false"))
    return headers


class PlainReply:
    """Collects what is committed and sends it as one response."""

    begun = False
    """Always False: nothing is sent before `finish`, so another model may still answer."""

    def __init__(self, send: Send, exchange: Exchange) -> None:
        self.finished = False
        self._send = send
        self._exchange = exchange
        self._events: list[Event] = []
        self._body: bytes | None = None
        self._seam = Seam()

    def trim(self, seam: bool = True) -> None:
        self._seam.open = seam

    async def events(self, events: Sequence[Event]) -> None:
        self._events += self._seam.trim(events)

    async def raw(self, data: bytes) -> None:
        raise RuntimeError("a plain reply is not relayed")

    async def response(self, body: bytes) -> None:
        self._body = body

    async def finish(self, usage: Body | None) -> None:
        body = self._build_body(usage)
        self._exchange.note_first_byte()
        self.finished = True
        await respond(self._send, 200, build_figure_headers(self._exchange), body)

    def _build_body(self, usage: Body | None) -> bytes:
        body = self._assemble(usage) if self._body is None else self._body
        if self._exchange.captured is not None:
            self._exchange.captured.response(body)
        return body

    def _assemble(self, usage: Body | None) -> bytes:
        response = assemble_response(map(read_event, self._events), self._exchange.endpoint)
        own = {"choices": response["choices"], "object": response["object"]}
        return orjson.dumps(response | (usage or {}) | own)

    async def fail(self, error: ApiError) -> None:
        self.finished = True
        await respond_error(self._send, error, build_figure_headers(self._exchange))

    def close(self) -> None:
        """Do nothing: a plain reply has no background task."""


class Seam:
    """The point where one writer continues another's text.

    While it is `open`, leading whitespace of the second text is dropped: the client has the first writer's.
    """

    def __init__(self) -> None:
        self.open = False

    def trim(self, events: Sequence[Event]) -> Sequence[Event]:
        return self._trim_events([read_event(event) for event in events]) if self.open else events

    def _trim_events(self, events: list[Body]) -> list[Body]:
        for event in events:
            choice = event["choices"][0]
            if not (text := text_of(choice)):
                continue
            rest = text.lstrip()
            if "delta" in choice:
                choice["delta"]["content"] = rest
            else:
                choice["text"] = rest
            if rest:
                self.open = False
                break
        return events


class StreamReply:
    """Writes a stream with one id, one role, one finish reason, one usage and `[DONE]`.

    Headers are sent with the first committed event, or after `heartbeat` seconds without one. Then comment lines keep
    the stream alive. A comment is no part of the answer: `begun` stays False, and another model may still answer.
    """

    _passes_raw = True
    """Whether unparsed events may be forwarded unchanged."""

    def __init__(self, send: Send, exchange: Exchange, heartbeat: float, deadlines: Deadlines) -> None:
        self._send = send
        self._exchange = exchange
        self.begun = False
        self.finished = False
        self._named_roles: set[int] = set()
        self._headers_sent = False
        self._own_id: Body = {}
        self._seam = Seam()
        self._heartbeat = heartbeat
        self._time = asyncio.get_running_loop().time
        self._silence_deadline = deadlines.schedule(heartbeat, self._on_silence, repeated=True)
        self._heartbeat_task: asyncio.Task[None] | None = None

    def trim(self, seam: bool = True) -> None:
        self._seam.open = seam

    async def events(self, events: Sequence[Event]) -> None:
        """Send committed chunks, all in one write."""
        events = self._seam.trim(events)
        if self._exchange.captured is not None:
            self._exchange.captured.events(events)
        await self._write(self._encode(events))

    def _encode(self, events: Sequence[Event]) -> bytes:
        name = self._exchange.id.encode()
        self._own_id = {"id": self._exchange.id}
        parts = []
        for event in events:
            payload = replace_id(event, name) if isinstance(event, bytes) else None
            if payload := payload or self._rewrite_event(read_event(event)):
                parts.append(b"data: %b\n\n" % payload)
        return b"".join(parts)

    def _rewrite_event(self, event: Body) -> bytes:
        """Return an event's JSON; b"" if it only names a role that another writer has named."""
        event["id"] = self._exchange.id
        choice = event["choices"][0]
        delta = choice.get("delta")
        if delta and "role" in delta:
            index = choice.get("index", 0)
            if index in self._named_roles:
                del delta["role"]
                if not any(delta.values()) and choice.get("finish_reason") is None:
                    return b""
            self._named_roles.add(index)
        return orjson.dumps(event)

    async def raw(self, data: bytes) -> None:
        """Send committed events unchanged. If another writer's events came before, give all the same id.

        Raises Garbage, ReportedError for an event that must be parsed and is no chunk.
        """
        if self._passes_raw and not self._own_id:
            if self._exchange.captured is not None:
                self._exchange.captured.raw(data)
            await self._write(data)
            return
        events = [parse_block(block) for block in data.split(b"\n\n")]
        await self.events([event for event in events if event is not None and event.get("choices")])

    async def response(self, body: bytes) -> None:
        raise RuntimeError("a stream is not sent whole")

    async def finish(self, usage: Body | None) -> None:
        self._note_first_byte()
        last = self._build_last_event(usage)
        await self._send_headers()
        self.finished = True
        await self._send({"type": "http.response.body", "body": last, "more_body": False})

    def _build_last_event(self, usage: Body | None) -> bytes:
        exchange = self._exchange
        if usage is not None and exchange.wants_usage:
            figures = sse.encode_event({**usage, **self._own_id, "smallfirst": exchange.figures()})
        else:
            figures = sse.encode_comment("smallfirst", exchange.figures())
        return figures + sse.DONE_EVENT

    async def fail(self, error: ApiError) -> None:
        self.finished = True
        if not self._headers_sent:
            await respond_error(self._send, error, build_figure_headers(self._exchange))
            return
        await self._send(
            {"type": "http.response.body", "body": self._build_error_event(error), "more_body": False}
        )

    def _build_error_event(self, error: ApiError) -> bytes:
        return sse.encode_event(error.body())

    def close(self) -> None:
        """Stop the heartbeat."""
        self._silence_deadline.cancel()
        if self._heartbeat_task is not None:
            self._heartbeat_task.cancel()

    async def _write(self, data: bytes) -> None:
        self._note_first_byte()
        if not self._headers_sent:
            await self._send_headers()
        self._silence_deadline.due = self._time() + self._heartbeat
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    def _note_first_byte(self) -> None:
        if not self.begun:
            self.begun = True
            self._exchange.note_first_byte()

    async def _send_headers(self) -> None:
        if self._headers_sent:
            return
        self._headers_sent = True
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            *build_figure_headers(self._exchange),
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    def _on_silence(self) -> None:
        if not self.finished:
            self._silence_deadline.postpone(self._heartbeat)
            self._heartbeat_task = asyncio.ensure_future(self._send_heartbeat())

    async def _send_heartbeat(self) -> None:
        if not self.finished:  # it may have finished since the heartbeat was due
            await self._send_headers()
        if not self.finished:
            await self._send({"type": "http.response.body", "body": sse.HEARTBEAT, "more_body": True})


Reply = PlainReply | StreamReply
