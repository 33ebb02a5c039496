"""One call of an ask to one upstream: what is sent, who reads the response, and how it ends."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from gateway.exchange.call import Call
from gateway.exchange.exchange import Exchange
from gateway.skills.transforms import UnusableAnswer
from gateway.upstreams.failures import Failure
from gateway.upstreams.resilience.retries import Retries
from gateway.upstreams.transport.reported_error import ReportedError
from gateway.upstreams.transport.transport import Response, TransportError
from gateway.upstreams.upstream import Upstream
from gateway.wire.body_types import Body
from gateway.wire.requirements import NO_REQUIREMENTS, Requirements
from gateway.wire.structured_outputs import drop_fields
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

    __slots__ = (
        "_dispatcher",
        "_dropped_fields",
        "_sent",
        "call",
        "is_last",
        "is_repeatable",
        "needs",
        "reader",
        "retries",
        "upstream",
    )

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
        self._sent: Body | bytes = b""
        self._dropped_fields: tuple[str, ...] = ()

    @property
    def exchange(self) -> Exchange:
        return self._dispatcher.exchange

    async def post(self, request: UpstreamRequest, read: Callable[[Response], Awaitable[T]]) -> T:
        """Send a request and return what `read` makes of its response.

        Raises Unavailable, TransportError, LostRace. An error inside the response is a Failure, like one with a status.
        """
        self.is_repeatable = False
        if self._dropped_fields and isinstance(request.body, dict):
            request = request._replace(body=drop_fields(request.body, *self._dropped_fields))
        self._sent = request.body
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
            self.is_repeatable = not self._has_written()
            raise self.upstream.record_reported_error(error, opened) from error
        except TransportError:
            self.upstream.record_failure()
            raise
        finally:
            self.exchange.upstream_wait_s += opened.response.waited_s
            opened.close()

    def drop_refused_field(self, failure: Failure) -> bool:
        """Leave out of the next request a field that the server has just refused. Return whether there is such a field.

        It makes no difference whether the refusal has a status of its own or stands inside a response.
        """
        if not isinstance(self._sent, dict) or self._has_written():
            return False
        field = self.upstream.find_refused_field(self._sent, failure)
        if field is None:
            return False
        self._dropped_fields += (field,)
        return True

    def _has_written(self) -> bool:
        return self.reader is not None and self.reader.has_written
