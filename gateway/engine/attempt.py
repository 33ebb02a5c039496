"""One call of an ask to one upstream: what is sent, who reads the response, and how it ends."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from gateway.exchange.call import Call
from gateway.exchange.exchange import Exchange
from gateway.skills.transforms import UnusableAnswer
from gateway.upstreams.resilience.retries import Retries
from gateway.upstreams.transport.reported_error import ReportedError
from gateway.upstreams.transport.transport import Response, TransportError
from gateway.upstreams.upstream import Upstream
from gateway.wire.body_types import Body
from gateway.wire.requirements import NO_REQUIREMENTS, Requirements
from routers.plan import Draft

if TYPE_CHECKING:
    from .dispatch import Dispatcher

T = TypeVar("T")


class UpstreamRequest(NamedTuple):
    """What is sent to an upstream: a body to be serialised, or bytes that leave as they came.

    A restarting engine is waited for `patience` seconds. `on_response` is called as the response begins.
    """

    url: str
    body: Body | bytes
    stream: bool = False
    patience: float = 0.0
    on_response: Callable[[], None] | None = None


class DraftReader(Protocol):
    """Reads a response into a draft, and knows what has become of the draft if its call ends early."""

    @property
    def has_written(self) -> bool:
        """Whether a part of the answer has been read."""
        ...

    def partial(self) -> Draft | None:
        """Return what the client has of the draft; None if it has nothing."""
        ...

    def has_lost_race(self) -> bool:
        """Return whether the draft is a leg of a race that the other leg has won."""
        ...


class Attempt:
    """One call of an ask to one upstream. Whoever reads a draft sets `reader`."""

    __slots__ = ("_dispatcher", "call", "is_last", "is_repeatable", "needs", "reader", "retries", "upstream")

    def __init__(
        self,
        dispatcher: "Dispatcher",
        call: Call,
        upstream: Upstream,
        needs: Requirements = NO_REQUIREMENTS,
        *,
        is_last: bool,
        retries: Retries | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self.call = call
        self.upstream = upstream
        self.needs = needs
        self.is_last = is_last
        self.reader: DraftReader | None = None
        self.retries = retries
        self.is_repeatable = False
        """Whether the server has reported an error inside its response, before any part of an answer."""

    @property
    def exchange(self) -> Exchange:
        return self._dispatcher.exchange

    async def post(self, request: UpstreamRequest, read: Callable[[Response], Awaitable[T]]) -> T:
        """Send a request and return what `read` makes of its response.

        Raises Unavailable, TransportError, LostRace. An error inside the response is a Failure, like one with a status.
        """
        opened = await self._dispatcher.send(self, request)
        try:
            if request.on_response is not None:
                request.on_response()
            answer = await read(opened.response)
            self.upstream.record_success()
            return answer
        except UnusableAnswer:  # the server did well
            raise
        except ReportedError as error:
            self.is_repeatable = self.reader is None or not self.reader.has_written
            headers = opened.response.headers
            raise self.upstream.record_error(error.status, headers, error.body, opened.request) from error
        except TransportError:
            self.upstream.record_failure()
            raise
        finally:
            self.exchange.upstream_wait_s += opened.response.waited_s
            opened.close()
