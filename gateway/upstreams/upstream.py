"""One OpenAI-compatible endpoint with one model: admission, transport, retries, breaker."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from urllib.parse import urlencode

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt
from yarl import URL

from gateway.settings import UpstreamSettings
from gateway.wire import Body
from routers.calibration import Source
from routers.cost import FREE, Price

from . import llamacpp, openai, vllm
from .breaker import Breaker
from .failures import SAFE_TO_REPEAT, Failure, failed
from .prices import known_price
from .slots import Full, Slots
from .transport import Broken, HttpTransport, Response, Transport

ADAPTED: dict[str, Callable[[Body, bool], Body]] = {
    "openai": openai.adapted,
    "llamacpp": llamacpp.adapted,
    "vllm": vllm.adapted,
}

log = logging.getLogger(__name__)

LOOK_AGAIN = 0.1
"""Seconds between two tries of a call that has patience."""

LONGEST_WAIT = 4.0
"""Seconds a retry may wait; a server that asks for more is left to the plan's fallback."""


class Upstream:
    """`send` posts a body and gives a response that has begun well, or raises Failure.

    `up` is false while a supervised engine is not running.
    """

    def __init__(self, settings: UpstreamSettings, transport: Transport | None = None) -> None:
        self.name = settings.name
        self.tier = settings.tier
        self.model = settings.model
        self.engine = settings.engine
        self.logprobs = settings.logprobs
        self.embeddings = settings.embeddings
        self.cloud = settings.tier == "llm"
        self.source = Source(model=settings.model, engine=settings.engine)
        price = settings.price or known_price(settings.model, str(settings.url))
        self.price: Price = price or FREE
        self.priced = price is not None
        self._urls = _urls(settings)
        self.breaker = Breaker()
        self._limits = settings.limits
        self._secrets = _secrets(settings)
        self._transport = transport or _transport(settings)
        self._slots = Slots(settings.limits.in_flight, settings.limits.queued)
        self._supervised = False
        self._running = asyncio.Event()
        self._running.set()

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot."""
        return self._slots.waiting

    @property
    def up(self) -> bool:
        return self._running.is_set() and not self.breaker.is_open

    def set_running(self, running: bool) -> None:
        """Told by the supervisor of a local engine."""
        self._supervised = True
        if running:
            self._running.set()
            self.breaker.success()
        else:
            self._running.clear()

    def url(self, endpoint: str) -> URL:
        """Of our endpoint `chat`, `completions` or `embeddings`."""
        return self._urls[endpoint]

    def adapted(self, body: Body, *, continues: bool) -> Body:
        """The body as this kind of server wants it; `continues` where it ends in a begun answer."""
        return ADAPTED[self.engine](body, continues)

    def worked(self) -> None:
        """A response came to its end, or to where we stopped it."""
        self.breaker.success()

    def broke(self) -> None:
        """A response that had begun well broke off."""
        self.breaker.failure()

    async def send(
        self,
        url: URL,
        body: bytes,
        *,
        stream: bool,
        patience: float = 0.0,
        leaving: Callable[[], None] = lambda: None,
    ) -> "Call":
        """Posts `body`; the call it gives must be closed. `patience` seconds are spent on an engine that
        restarts, or that has died without its supervisor knowing yet. `leaving` is called as the body leaves."""
        until = time.monotonic() + (patience if self._supervised else 0.0)
        while True:
            try:
                return await self._send(url, body, stream, until, leaving)
            except Failure as failure:
                if failure.why not in ("down", "lost") or time.monotonic() >= until:
                    raise
            await asyncio.sleep(LOOK_AGAIN)

    async def _send(
        self, url: URL, body: bytes, stream: bool, until: float, leaving: Callable[[], None]
    ) -> "Call":
        if not self._running.is_set():
            await self._running_by(until)
        if not self._slots.take():
            await self._wait_for_slot()
        wait = self._limits.first_token if stream else self._limits.whole
        try:
            leaving()
            return Call(await self._attempts(url, body, wait), self._slots)
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

    async def _attempts(self, url: URL, body: bytes, wait: float) -> Response:
        try:
            return await self._attempt(url, body, wait)
        except Failure as failure:
            if not self._limits.retries or not _repeatable(failure):
                raise
            await asyncio.sleep(_wait_after(failure, 1))
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._limits.retries),
            wait=_wait,
            retry=retry_if_exception(_repeatable),
            reraise=True,
        )
        return await retrying(self._attempt, url, body, wait)

    async def _attempt(self, url: URL, body: bytes, wait: float) -> Response:
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
            self.breaker.success()
        if failure.why == "refused":
            log.warning(
                "%s refuses us with status %d: check its key, url and model", self.name, response.status
            )
        raise failure

    async def _post(self, url: URL, body: bytes, wait: float) -> Response:
        try:
            return await self._transport.post(url, body, wait)
        except Broken as broken:
            if broken.why != "lost" or not broken.fresh:
                raise
        # A kept connection that the server had closed meanwhile: nothing was answered, so once more.
        return await self._transport.post(url, body, wait)

    def _redacted(self, body: bytes) -> bytes:
        """An error's body reaches clients; a server may have quoted what we sent it."""
        for secret in self._secrets:
            body = body.replace(secret, b"***")
        return body

    def _failure(self, why: str, message: str) -> Failure:
        return Failure(why, self.tier, f"{self.name}: {message}", upstream=self.name)


class Call:
    """A response under way. Closing it early tells the server that its client is gone."""

    def __init__(self, response: Response, slots: Slots) -> None:
        self.response = response
        self._slots = slots
        self._closed = False

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.response.close()
            self._slots.release()


def _urls(settings: UpstreamSettings) -> dict[str, URL]:
    base = str(settings.url).rstrip("/")
    query = urlencode({name: value.get_secret_value() for name, value in settings.query.items()})
    tail = f"?{query}" if query else ""
    paths = {
        "chat": settings.chat_path,
        "completions": settings.completions_path,
        "embeddings": settings.embeddings_path,
    }
    return {endpoint: URL(base + path + tail, encoded=True) for endpoint, path in paths.items()}


def _headers(settings: UpstreamSettings) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    if settings.key is not None:
        headers["Authorization"] = f"Bearer {settings.key.get_secret_value()}"
    return headers | {name: value.get_secret_value() for name, value in settings.headers.items()}


def _secrets(settings: UpstreamSettings) -> list[bytes]:
    """Those long enough that no word of an error message is one by chance."""
    given = [settings.key, *settings.headers.values(), *settings.query.values()]
    return [value.get_secret_value().encode() for value in given if value is not None and len(value) >= 8]


def _transport(settings: UpstreamSettings) -> HttpTransport:
    return HttpTransport(
        _headers(settings),
        connect=settings.limits.connect,
        gap=settings.limits.gap,
        # llama.cpp's server closes after a stream, whatever its keep-alive header says.
        keep_alive=settings.engine != "llamacpp",
    )


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
    """Seconds: what the server asked for, else exponential with full jitter."""
    if isinstance(error, Failure) and error.retry_after is not None:
        return error.retry_after
    return random.uniform(0.0, min(LONGEST_WAIT, 0.2 * 2**attempt))  # noqa: S311  no secret
