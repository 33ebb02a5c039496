"""The client of one OpenAI-compatible endpoint: admission, retries, circuit breaker and health."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping

import orjson

from gateway.wire.body_types import Body
from gateway.wire.parsing.answers import read_answer
from policies.loading.yaml_files import ConfigError
from routers.confidence.calibration import Fingerprint

from .endpoint import Endpoint
from .failures import Failure, parse_failure
from .latency import LatencyModel
from .providers.refusals import read_refusal
from .providers.registry import SERVER_KINDS
from .providers.server_kind import Scorer
from .resilience.breaker import Breaker
from .resilience.concurrency import QueueFull, Slots
from .resilience.request_faults import blames_request
from .resilience.retries import Retries, retry
from .resilience.retry_budget import RetryBudget
from .settings import UpstreamSettings
from .transport.address import build_headers, collect_secrets
from .transport.http_client import HttpTransport
from .transport.malformed import parsing
from .transport.pages import post_page
from .transport.reported_error import ReportedError, check_answer
from .transport.transport import MAX_BODY, MAX_ERROR, Garbage, Response, Transport, TransportError

log = logging.getLogger(__name__)

RESEND_INTERVAL_S = 0.1
"""Seconds between two attempts of a call that waits for an engine to restart."""

MAX_BACK_OFF_S = 60.0
"""Maximum seconds for which other upstreams are preferred after a `Retry-After`, and those after an exhausted quota."""


QUESTION_TIMEOUT_S = 5.0
"""Seconds that a server may take to say how it treats tools."""


NO_TOOL_PARSER = "it was started without vLLM's options --enable-auto-tool-choice and --tool-call-parser"
"""Why a server is asked for no tools once it has refused some."""

SERVER_FAULTS = frozenset({"error", "garbage", "overloaded", "timeout"})
"""Reasons of errors that count against the breaker, unless the error blames the request."""


class Upstream(Endpoint):
    """Sends calls to its endpoint. `send` returns a response whose status is a success, or raises Failure."""

    def __init__(
        self,
        settings: UpstreamSettings,
        transport: Transport | None = None,
        scorer: Scorer | None = None,
        fingerprint: Fingerprint | None = None,
    ) -> None:
        """`fingerprint` is that of the model's files, if they are on this machine."""
        super().__init__(settings, scorer, fingerprint)
        self.breaker = Breaker()
        self._retry_budget = RetryBudget()
        self._limits = settings.limits
        self.latency = LatencyModel()
        self.ends_answer: dict[int, bool] = {}
        """Whether a special token ends an answer, by the ids of the special tokens seen so far."""
        self._secrets = collect_secrets(settings)
        self._transport = transport or _build_transport(settings)
        self._slots = Slots(settings.limits.in_flight, settings.limits.queued)
        self._supervised = False
        self._running = asyncio.Event()
        self._running.set()
        self._is_probe_missed = False
        self._backing_off_until = 0.0
        self._last_answer_at = -math.inf
        declared = settings.capabilities.tools is not None
        self.doubts_tools = self.kind.shows_tools is not None and not declared
        """Whether the server has still to be asked if its model gets to see tools."""

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot."""
        return self._slots.waiting

    @property
    def load(self) -> int:
        """Calls in flight, and those that wait for a slot."""
        return self._slots.load

    @property
    def is_up(self) -> bool:
        """Whether the supervised engine runs, the last probe was not missed, and the breaker is not open."""
        return self._running.is_set() and not self._is_probe_missed and not self.breaker.is_open

    @property
    def is_restarting(self) -> bool:
        """Whether it is a supervised engine that is not running. A call may wait for it."""
        return not self._running.is_set()

    @property
    def is_backing_off(self) -> bool:
        """Whether a `Retry-After` of the server is still in effect. Such an upstream is called only if no
        other can be."""
        return time.monotonic() < self._backing_off_until

    def is_silent_for(self, seconds: float) -> bool:
        """Return whether it has answered no call for that long."""
        return time.monotonic() - self._last_answer_at >= seconds

    def record_probe(self, is_alive: bool) -> None:
        """Record the result of a probe.

        A missed probe marks the upstream as down until a probe or a call is answered. An answered probe ends
        the breaker's rest, so that the next call is a trial.
        """
        self._is_probe_missed = not is_alive
        if is_alive:
            self.breaker.end_rest()

    def set_running(self, running: bool) -> None:
        """Set whether the engine runs; its supervisor calls this."""
        self._supervised = True
        if running:
            self._running.set()
            self.breaker.record_success()
        else:
            self._running.clear()

    async def learn_tool_support(self) -> None:
        """Ask the server, once, whether its model gets to see tools; it is never asked if the settings say so.

        Raises TransportError if it cannot be asked now. A server that does not tell is left as its kind is.
        """
        if not self.doubts_tools:
            return
        try:
            shown = await self.fetch_tool_support()
        except Garbage:
            shown = None
        self.doubts_tools = False
        if shown is False:
            self.lose_capability("tools", "the model's chat template leaves them out")
            log.info("%s gets no requests with tools: the model's chat template leaves them out", self.name)

    async def fetch_tool_support(self) -> bool | None:
        """Return whether the model gets to see tools; None if only requests can show. Raises TransportError."""
        if self.kind.shows_tools is None:
            return None
        return await self.kind.shows_tools(self._post_page)

    async def _post_page(self, page: str, body: Body) -> Body:
        return await post_page(
            self._transport, self.url(page), body | {"model": self.model}, QUESTION_TIMEOUT_S
        )

    def record_success(self) -> None:
        """Record that a response ended, or that we stopped it."""
        self._retry_budget.record_answer()
        self._record_answer()

    def record_failure(self) -> None:
        """Record that a response broke off after a successful start."""
        self.breaker.record_failure()

    def allow_retries(self, is_last: bool) -> Retries:
        """Return the retries of one call: none if another upstream can be called instead."""
        return Retries(self._limits.retries if is_last else 0, self._retry_budget)

    async def send(
        self,
        url: str,
        body: bytes,
        *,
        stream: bool,
        restart_wait_s: float = 0.0,
        is_last: bool = True,
        retries: Retries | None = None,
        on_send: Callable[[], None] = lambda: None,
    ) -> "Call":
        """Post `body` and return the call, which the caller must close. Raises Failure.

        `restart_wait_s` is the maximum wait for a supervised engine that restarts, or whose death its
        supervisor has not noticed yet. `is_last` says that no other upstream can be called; only then are
        waits and retries allowed. `retries` are those left of `allow_retries`, if the call was made before.
        `on_send` is called just before the body is sent.
        """
        retries = retries or self.allow_retries(is_last)
        deadline = time.monotonic() + (restart_wait_s if self._supervised and is_last else 0.0)
        while True:
            try:
                return await self._send(url, body, stream, deadline, retries, on_send)
            except Failure as failure:
                if failure.why not in ("down", "lost") or time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(RESEND_INTERVAL_S)

    async def _send(
        self,
        url: str,
        body: bytes,
        stream: bool,
        deadline: float,
        retries: Retries,
        on_send: Callable[[], None],
    ) -> "Call":
        if not self._running.is_set():
            await self._wait_until_running(deadline)
        if not self._slots.try_acquire():
            await self._wait_for_slot()
        timeout_s = self._limits.first_token if stream else self._limits.whole
        try:
            on_send()
            try:
                response = await self._post_once(url, body, timeout_s)
            except Failure as failure:
                response = await retry(lambda: self._post_once(url, body, timeout_s), failure, retries)
            return Call(response, self._slots, body)
        except BaseException:
            self._slots.release()
            raise

    async def fetch(self, page: str, content: bytes) -> Body:
        """Post to a page that writes no answer (tokenize, detokenize), and return the JSON that it gives.

        Raises Failure, also for an error inside a successful response, and TransportError.
        """
        call = await self.send(self.url(page), content, stream=False)
        try:
            raw = await call.response.read(MAX_BODY)
            with parsing(f"what /{page} gives"):
                answer: Body = read_answer(raw)[0]
            check_answer(answer)
            return answer
        except ReportedError as error:
            raise self.record_reported_error(error, call) from error
        finally:
            call.close()

    async def close(self) -> None:
        await self._transport.close()

    async def _wait_until_running(self, deadline: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._running.wait()
        except TimeoutError:
            raise self._build_failure("down", "the engine is not running") from None

    async def _wait_for_slot(self) -> None:
        try:
            await self._slots.wait()
        except QueueFull:
            what = f"{self._limits.in_flight} calls in flight and the queue is full"
            raise self._build_failure("busy", what) from None

    async def _post_once(self, url: str, body: bytes, timeout_s: float) -> Response:
        if not self.breaker.admit():
            raise self._build_failure(
                "down", f"resting for {self.breaker.retry_in_s:.0f} s after repeated failures"
            )
        try:
            response = await self._post_past_stale_connection(url, body, timeout_s)
        except TransportError as broken:
            self.breaker.record_failure()
            raise self._build_failure(broken.why, str(broken)) from broken
        if response.status < 300:
            return response
        raise self.record_error(response.status, response.headers, await _read_error_body(response), body)

    def record_reported_error(self, error: ReportedError, call: "Call") -> Failure:
        """Record an error inside a successful response as one with a status is, and return it as a failure."""
        return self.record_error(error.status, call.response.headers, error.body, call.request)

    def record_error(self, status: int, headers: Mapping[str, str], answer: bytes, request: bytes) -> Failure:
        """Record an error that the server has answered with, and return it as a failure."""
        answer = self._redact(answer)
        failure = parse_failure(self.name, self.tier, status, headers, answer)
        if failure.why in SERVER_FAULTS and not blames_request(status, answer, request):
            self.breaker.record_failure()
        else:
            self._record_answer()
        if failure.why == "rejected" and read_refusal(answer).lacks_tool_parser:
            return self._learn_missing_tools()
        if (seconds := _choose_back_off(failure)) is not None:
            self._backing_off_until = time.monotonic() + seconds
        if failure.why == "misconfigured":
            log.warning("%s refuses us with status %d: check its key, url and model", self.name, status)
        return failure

    def _learn_missing_tools(self) -> Failure:
        """Note that the server takes no tools, and return the failure as that of a request that it cannot serve."""
        log.warning("%s gets no requests with tools: %s", self.name, NO_TOOL_PARSER)
        self.lose_capability("tools", NO_TOOL_PARSER)
        return self._build_failure("incapable", f"does not offer tools ({NO_TOOL_PARSER})")

    def _record_answer(self) -> None:
        self.breaker.record_success()
        self._is_probe_missed, self._last_answer_at = False, time.monotonic()

    async def _post_past_stale_connection(self, url: str, body: bytes, timeout_s: float) -> Response:
        try:
            return await self._transport.post(url, body, timeout_s)
        except TransportError as broken:
            if broken.why != "lost" or not broken.before_response:
                raise
        # The server had closed the reused connection and sent no response, so the request is safe to repeat once.
        return await self._transport.post(url, body, timeout_s)

    def _redact(self, body: bytes) -> bytes:
        """Mask secrets in an error body: it reaches clients, and the server may quote our request."""
        for secret in self._secrets:
            body = body.replace(secret, b"***")
        return body


class Call:
    """A response in progress, and its slot. Closing it early closes the connection, which cancels the
    call. `request` is the body that was sent."""

    def __init__(self, response: Response, slots: Slots, request: bytes = b"") -> None:
        self.response = response
        self.request = request
        self._slots = slots
        self._closed = False

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.response.close()
            self._slots.release()


def _build_transport(settings: UpstreamSettings) -> HttpTransport:
    try:
        return HttpTransport(
            str(settings.url),
            build_headers(settings),
            connect=settings.limits.connect,
            gap=settings.limits.gap,
            keep_alive=SERVER_KINDS[settings.engine].keep_alive,
        )
    except ValueError as error:
        raise ConfigError(f"the upstream {settings.name}: {error}") from error


def _choose_back_off(failure: Failure) -> float | None:
    """Return the seconds for which other upstreams are preferred after a failure; None for no time."""
    if failure.why == "out_of_quota":
        return MAX_BACK_OFF_S
    if failure.why in ("overloaded", "rate_limited") and failure.retry_after is not None:
        return min(MAX_BACK_OFF_S, failure.retry_after)
    return None


async def _read_error_body(response: Response) -> bytes:
    """Return an error's body, or one that says why it could not be read."""
    try:
        return await response.read(MAX_ERROR)
    except TransportError as error:
        return orjson.dumps({"error": {"message": str(error)}})
    finally:
        response.close()
