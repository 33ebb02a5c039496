"""The client of one OpenAI-compatible endpoint: admission, retries, circuit breaker and health."""

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from gateway.wire.requirements import Needs
from gateway.wire.shapes import Body
from gateway.wire.structured_outputs import without
from gateway.wire.vendor_fields import ASIDE, OPENAI, SPECIAL
from policies.loading.yaml_files import ConfigError
from routers.confidence.calibration import Source
from routers.cost import FREE, Price

from .breaker import Breaker
from .capabilities import Capabilities
from .concurrency import Full, Slots
from .failures import SAFE_TO_REPEAT, Failure, failed
from .latency import Pace
from .providers.kind import Scorer
from .providers.kinds import KINDS
from .providers.prices import known_price
from .settings import UpstreamSettings
from .transport.address import base_of, headers_of, probe_of, secrets_of, urls_of
from .transport.http11 import HttpTransport
from .transport.transport import Broken, Response, Transport

log = logging.getLogger(__name__)

LOOK_AGAIN = 0.1
"""Seconds between two attempts of a call that waits for an engine to restart."""

LONGEST_WAIT = 4.0
"""Maximum seconds before a retry. If a server asks for more, the call fails and the plan's fallback
applies."""

LONGEST_SPARED = 60.0
"""Maximum seconds for which other upstreams are preferred after a `Retry-After`."""


class Upstream:
    """Sends calls to one endpoint. `send` returns a response whose status is a success, or raises Failure."""

    def __init__(
        self,
        settings: UpstreamSettings,
        transport: Transport | None = None,
        scorer: Scorer | None = None,
    ) -> None:
        self.name = settings.name
        self.tier = settings.tier
        self.model = settings.model
        self.models = (settings.model, *settings.adapters)
        self.judges_only = settings.judges_only
        self.priority = settings.priority
        self.weight = settings.weight
        self.cloud = settings.is_cloud
        self.context = settings.context
        self.capabilities = capabilities_of(settings)
        self.can = self.capabilities.names()
        self.most_alternatives = self.capabilities.top_logprobs or 0
        self.source = Source(model=settings.model, engine=settings.engine)
        price = settings.price or known_price(settings.model, str(settings.url))
        self.price: Price = price or FREE
        self.priced = price is not None
        self.kind = KINDS[settings.engine]
        self.scorer = scorer or self.kind.scorer
        strict = self.kind.strict(base_of(settings))
        self._unknown = SPECIAL - OPENAI if strict else self.kind.ignores
        self._left_out = ASIDE if strict else frozenset()
        native = "structured_outputs" in self.can
        self.rewrites = (
            self.kind.rewrites | self._left_out | frozenset(() if native else ("structured_outputs",))
        )
        self._urls = urls_of(settings)
        self.breaker = Breaker()
        self.probe = probe_of(settings)
        self._limits = settings.limits
        self.pace = Pace()
        self.ending: dict[int, bool] = {}
        """Whether a special token ends an answer, by the ids of the special tokens seen so far."""
        self._secrets = secrets_of(settings)
        self._transport = transport or _transport(settings)
        self._slots = Slots(settings.limits.in_flight, settings.limits.queued)
        self._supervised = False
        self._running = asyncio.Event()
        self._running.set()
        self._missing = False
        self._spared_until = 0.0
        self._heard = -math.inf

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot."""
        return self._slots.waiting

    @property
    def load(self) -> int:
        """Calls in flight, and those that wait for a slot."""
        return self._slots.load

    @property
    def up(self) -> bool:
        """Whether the supervised engine runs, the last probe was not missed, and the breaker is not open."""
        return self._running.is_set() and not self._missing and not self.breaker.is_open

    @property
    def restarting(self) -> bool:
        """Whether it is a supervised engine that is not running. A call may wait for it."""
        return not self._running.is_set()

    @property
    def spared(self) -> bool:
        """Whether a `Retry-After` of the server is still in effect. Such an upstream is called only if no
        other can be."""
        return time.monotonic() < self._spared_until

    def fits(self, needs: Needs) -> bool:
        """Return whether it can serve a request with these needs."""
        return (
            (not self.judges_only if needs.model is None else needs.model in self.models)
            and needs.capabilities <= self.can
            and needs.top_logprobs <= self.most_alternatives
            and needs.fields.isdisjoint(self._unknown)
            and (self.context is None or needs.tokens <= self.context)
            and (self.scorer is not None or not needs.surprises)
        )

    def lacking(self, needs: Needs) -> Failure | None:
        """Return why it cannot serve these needs, or None: `incapable`, or `context` if the prompt is
        certainly too long."""
        if needs.model is not None and needs.model not in self.models:
            return self._failure("incapable", f"serves {', '.join(self.models)}, not {needs.model}")
        if needs.model is None and self.judges_only:
            return self._failure("incapable", "judges only, and answers no requests")
        if not needs.capabilities <= self.can:
            missing = ", ".join(sorted(needs.capabilities - self.can))
            return self._failure("incapable", f"does not offer {missing}")
        if needs.top_logprobs > self.most_alternatives:
            what = f"gives {self.most_alternatives} alternatives a token, not {needs.top_logprobs}"
            return self._failure("incapable", what)
        if unknown := needs.fields & self._unknown:
            return self._failure("incapable", f"does not know {', '.join(sorted(unknown))}")
        if needs.surprises and self.scorer is None:
            what = f"an engine of its kind ({self.source.engine}) tells no log-probabilities of a text"
            return self._failure("incapable", what)
        if self.context is not None and needs.tokens > self.context:
            what = f"the prompt has at least {needs.tokens} tokens, and the context is {self.context}"
            return self._failure("context", what)
        return None

    def quiet(self, seconds: float) -> bool:
        """Return whether it has answered no call for that long."""
        return time.monotonic() - self._heard >= seconds

    def probed(self, there: bool) -> None:
        """Record the result of a probe.

        A missed probe marks the upstream as down until a probe or a call is answered. An answered probe ends
        the breaker's rest, so that the next call is a trial.
        """
        self._missing = not there
        if there:
            self.breaker.try_now()

    def set_running(self, running: bool) -> None:
        """Set whether the engine runs; its supervisor calls this."""
        self._supervised = True
        if running:
            self._running.set()
            self.breaker.success()
        else:
            self._running.clear()

    def url(self, endpoint: str) -> str:
        """Return the URL of an endpoint named in `build_urls`."""
        return self._urls[endpoint]

    def adapted(self, body: Body, *, continues: bool) -> Body:
        """Return the body adapted to this kind of server. `continues` says that it ends in a partial
        answer."""
        if not self._left_out.isdisjoint(body):
            body = without(body, *self._left_out)
        if body.get("structured_outputs") is not None and "structured_outputs" not in self.can:
            body = self.kind.constrained(body)
        return self.kind.adapted(body, continues)

    def worked(self) -> None:
        """Record that a response ended, or that we stopped it."""
        self._answered()

    def broke(self) -> None:
        """Record that a response broke off after a successful start."""
        self.breaker.failure()

    async def send(
        self,
        url: str,
        body: bytes,
        *,
        stream: bool,
        patience: float = 0.0,
        last: bool = True,
        leaving: Callable[[], None] = lambda: None,
    ) -> "Call":
        """Post `body` and return the call, which the caller must close. Raises Failure.

        `restart_wait_s` is the maximum wait for a supervised engine that restarts, or whose death its
        supervisor has not noticed yet. `is_last` says that no other upstream can be called; only then are
        waits and retries allowed. `on_send` is called just before the body is sent.
        """
        until = time.monotonic() + (patience if self._supervised and last else 0.0)
        retries = self._limits.retries if last else 0
        while True:
            try:
                return await self._send(url, body, stream, until, retries, leaving)
            except Failure as failure:
                if failure.why not in ("down", "lost") or time.monotonic() >= until:
                    raise
            await asyncio.sleep(LOOK_AGAIN)

    async def _send(
        self, url: str, body: bytes, stream: bool, until: float, retries: int, leaving: Callable[[], None]
    ) -> "Call":
        if not self._running.is_set():
            await self._running_by(until)
        if not self._slots.take():
            await self._wait_for_slot()
        wait = self._limits.first_token if stream else self._limits.whole
        try:
            leaving()
            return Call(await self._attempts(url, body, wait, retries), self._slots)
        except BaseException:
            self._slots.release()
            raise

    async def close(self) -> None:
        await self._transport.close()

    async def _running_by(self, until: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                await self._running.wait()
        except TimeoutError:
            raise self._failure("down", "the engine is not running") from None

    async def _wait_for_slot(self) -> None:
        try:
            await self._slots.wait()
        except Full:
            what = f"{self._limits.in_flight} calls in flight and the queue is full"
            raise self._failure("busy", what) from None

    async def _attempts(self, url: str, body: bytes, wait: float, retries: int) -> Response:
        try:
            return await self._attempt(url, body, wait)
        except Failure as failure:
            if not retries or not _repeatable(failure):
                raise
            await asyncio.sleep(_wait_after(failure, 1))
        retrying = AsyncRetrying(
            stop=stop_after_attempt(retries),
            wait=_wait,
            retry=retry_if_exception(_repeatable),
            reraise=True,
        )
        return await retrying(self._attempt, url, body, wait)

    async def _attempt(self, url: str, body: bytes, wait: float) -> Response:
        if not self.breaker.admit():
            raise self._failure("down", f"resting for {self.breaker.wait:.0f} s after repeated failures")
        try:
            response = await self._post(url, body, wait)
        except Broken as broken:
            self.breaker.failure()
            raise self._failure(broken.why, str(broken)) from broken
        if response.status < 300:
            return response
        answer = self._redacted(await _whole(response))
        failure = failed(self.name, self.tier, response.status, response.headers, answer)
        if failure.why in ("error", "overloaded", "timeout"):
            self.breaker.failure()
        else:
            self._answered()
        if failure.why in ("overloaded", "rate_limited") and failure.retry_after is not None:
            self._spared_until = time.monotonic() + min(LONGEST_SPARED, failure.retry_after)
        if failure.why == "refused":
            log.warning(
                "%s refuses us with status %d: check its key, url and model", self.name, response.status
            )
        raise failure

    def _answered(self) -> None:
        self.breaker.success()
        self._missing, self._heard = False, time.monotonic()

    async def _post(self, url: str, body: bytes, wait: float) -> Response:
        try:
            return await self._transport.post(url, body, wait)
        except Broken as broken:
            if broken.why != "lost" or not broken.fresh:
                raise
        # The server had closed the reused connection and sent no response, so the request is safe to repeat once.
        return await self._transport.post(url, body, wait)

    def _redacted(self, body: bytes) -> bytes:
        """Mask secrets in an error body: it reaches clients, and the server may quote our request."""
        for secret in self._secrets:
            body = body.replace(secret, b"***")
        return body

    def _failure(self, why: str, message: str) -> Failure:
        return Failure(why, self.tier, f"{self.name}: {message}", upstream=self.name)


class Call:
    """A response in progress, and its slot. Closing it early closes the connection, which cancels the
    call."""

    def __init__(self, response: Response, slots: Slots) -> None:
        self.response = response
        self._slots = slots
        self._closed = False

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.response.close()
            self._slots.release()


def capabilities_of(settings: UpstreamSettings) -> Capabilities:
    """Return the capabilities in the settings, with the kind's defaults for the rest.

    `logit_bias` defaults to false for a small model: token ids belong to one tokenizer, and in a request that
    any model may answer they are taken to be the large model's.
    """
    known = KINDS[settings.engine].capabilities(settings.model, base_of(settings))
    if settings.tier == "slm":
        known = known.model_copy(update={"logit_bias": False})
    return settings.capabilities.over(known)


def _transport(settings: UpstreamSettings) -> HttpTransport:
    try:
        return HttpTransport(
            str(settings.url),
            headers_of(settings),
            connect=settings.limits.connect,
            gap=settings.limits.gap,
            keep_alive=KINDS[settings.engine].keep_alive,
        )
    except ValueError as error:
        raise ConfigError(f"the upstream {settings.name}: {error}") from error


async def _whole(response: Response) -> bytes:
    try:
        return await response.read()
    except Broken:
        return b""
    finally:
        response.close()


def _repeatable(error: BaseException) -> bool:
    if not isinstance(error, Failure) or error.why not in SAFE_TO_REPEAT:
        return False
    return (error.retry_after or 0.0) <= LONGEST_WAIT


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return _wait_after(error, state.attempt_number + 1)


def _wait_after(error: BaseException | None, attempt: int) -> float:
    """Return the seconds before a retry: the server's `Retry-After`, else exponential back-off with full
    jitter."""
    if isinstance(error, Failure) and error.retry_after is not None:
        return error.retry_after
    return random.uniform(0.0, min(LONGEST_WAIT, 0.2 * 2**attempt))  # noqa: S311  no secret
