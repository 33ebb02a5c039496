"""What the engine writes an answer to: the reply of a client, a leg of a race, or nobody."""

from collections.abc import Sequence
from typing import Protocol

from gateway.errors import ApiError
from gateway.exchange.exchange import Exchange
from gateway.wire.body_types import Body, Event


class Sink(Protocol):
    """Takes what is committed of an answer. A leg of a race raises LostRace if the other leg has committed first."""

    @property
    def begun(self) -> bool:
        """True once a byte of the answer has left. No other model may begin the answer anew then."""
        ...

    async def events(self, events: Sequence[Event]) -> None:
        """Take chunks of a stream."""
        ...

    async def raw(self, data: bytes) -> None:
        """Take events of a stream that nobody has parsed, as they came."""
        ...

    async def response(self, body: bytes) -> None:
        """Take a plain response."""
        ...


class Reply(Sink, Protocol):
    """The one reply of an exchange."""

    @property
    def finished(self) -> bool:
        """True once the answer, or an error instead, has been sent to its end."""
        ...

    def trim(self, seam: bool = True) -> None:
        """Leave out the whitespace that the next text begins with, since it goes on from another writer's text."""
        ...

    async def finish(self, usage: Body | None) -> None:
        """End the answer. `usage` is the stream's last chunk, if there is one."""
        ...

    async def fail(self, error: ApiError) -> None:
        """End the reply with an error."""
        ...


class NullReply:
    """The reply of an exchange whose answer nobody gets: a shadow, an evaluation, a skill asked by itself."""

    begun = False
    finished = False

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def trim(self, seam: bool = True) -> None:
        pass

    async def events(self, events: Sequence[Event]) -> None:
        pass

    async def raw(self, data: bytes) -> None:
        pass

    async def response(self, body: bytes) -> None:
        pass

    async def finish(self, usage: Body | None) -> None:
        self._exchange.note_first_byte()

    async def fail(self, error: ApiError) -> None:
        pass
