"""An upstream's answer with its texts rewritten: whole, or event by event as a stream runs."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import orjson

from gateway.upstreams.transport.garbage import UpstreamEvents, parsing
from gateway.upstreams.transport.transport import Garbage, Response
from gateway.wire.nesting import TooDeep, read_json
from gateway.wire.responses import call_index
from gateway.wire.shapes import Body
from gateway.wire.sse import DONE, DONE_EVENT, event, payload_of

TEXTS = ("content", "refusal", "reasoning_content", "reasoning")
"""What a message, or a stream's delta, says in running text."""


class TextFilter(Protocol):
    """Rewrites one running text, piece by piece: a pure state machine, whose output depends on the text alone and not
    on where it was cut."""

    @property
    def holding(self) -> bool:
        """Whether something that was fed is not out yet."""
        ...

    def feed(self, text: str) -> str:
        """What may go on now. Raises Unusable."""
        ...

    def end(self) -> str:
        """What was held back. Raises Unusable."""
        ...


class _Chain:
    """Filters one after another."""

    def __init__(self, filters: Sequence[TextFilter]) -> None:
        self._filters = filters

    @property
    def holding(self) -> bool:
        return any(one.holding for one in self._filters)

    def feed(self, text: str) -> str:
        for one in self._filters:
            text = one.feed(text)
        return text

    def end(self) -> str:
        rest = ""
        for one in self._filters:
            rest = (one.feed(rest) if rest else "") + one.end()
        return rest


class _Text:
    """A place in an event or a message that holds text."""

    def __init__(self, channel: tuple[Any, ...], holder: Body, key: str) -> None:
        self.channel = channel
        self._holder = holder
        self._key = key

    @property
    def text(self) -> str:
        found: str = self._holder[self._key]
        return found

    @text.setter
    def text(self, text: str) -> None:
        self._holder[self._key] = text


def _texts(choice: Body) -> Iterator[_Text]:
    """All there are in a choice, of a stream's chunk or of a whole answer, chat or completion. Raises what reading one
    of another shape ends in."""
    index = choice.get("index", 0)
    hash(index)  # raises TypeError for what can't tell choices apart
    if isinstance(choice.get("text"), str):
        yield _Text((index, "text"), choice, "text")
    message = choice.get("delta") or choice.get("message")
    if not isinstance(message, dict):
        return
    for key in TEXTS:
        if isinstance(message.get(key), str):
            yield _Text((index, key), message, key)
    for place, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function")
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            yield _Text((index, "arguments", call_index(call, place)), function, "arguments")


class Rewritten:
    """A response whose texts pass filters: `filters` makes those of one text, the flag telling that it is a tool
    call's arguments, which are JSON.

    An event that brings text is held while any filter holds some of it, and all after it too: so a token's event
    never leaves before its text, and what a filter held to the end is still an event's that has tokens.
    """

    def __init__(self, response: Response, filters: Callable[[bool], Sequence[TextFilter]]) -> None:
        self.status = response.status
        self._response = response
        self._filters = filters
        self._chains: dict[tuple[Any, ...], _Chain] = {}
        self._last: dict[tuple[Any, ...], _Text] = {}
        self._reader = UpstreamEvents()
        self._held: deque[bytes | Body] = deque()
        self._over = False

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    def close(self) -> None:
        self._response.close()

    async def read(self) -> bytes:
        """What is no answer of OpenAI's shape is left as it is. Raises Broken; Garbage where only a part is another."""
        data = await self._response.read()
        try:
            body = read_json(data)
            choices = [choice for choice in body.get("choices") or () if isinstance(choice, dict)]
        except (orjson.JSONDecodeError, AttributeError, TypeError):
            return data
        except TooDeep as error:
            raise Garbage(f"the response: {error}") from error
        with parsing("a choice of OpenAI's shape"):
            places = [place for choice in choices for place in _texts(choice)]
        for place in places:
            chain = self._chain(place.channel)
            place.text = chain.feed(place.text) + chain.end()
        return orjson.dumps(body) if choices else data

    async def next(self, gap: float | None = None) -> bytes:
        """Whole events. Raises Broken."""
        while not self._over:
            data = await self._response.next(gap)
            if data:
                self._take(self._reader.feed(data))
            else:
                self._over = True
                self._take([payload for payload in (payload_of(self._reader.rest()),) if payload])
                self._end(list(self._chains))
            if out := self._ready():
                return out
        return b""

    def _take(self, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            if payload == DONE:
                self._end(list(self._chains))
                self._held.append(DONE_EVENT)
            else:
                self._held.append(self._rewritten(payload))

    def _rewritten(self, payload: bytes) -> bytes | Body:
        """Whoever reads what is no chunk of OpenAI's shape judges it. No filter runs where that is found out: what one
        raises is no fault of the chunk's."""
        try:
            chunk = read_json(payload)
            choices = [(choice, [*_texts(choice)]) for choice in chunk.get("choices") or ()]
        except (orjson.JSONDecodeError, AttributeError, TypeError, KeyError):
            return b"data: " + payload + b"\n\n"
        except TooDeep as error:
            raise Garbage(f"an event: {error}") from error
        for choice, places in choices:
            self._filter(places)
            if choice.get("finish_reason") is not None:
                index = choice.get("index", 0)
                self._end([channel for channel in self._chains if channel[0] == index])
        body: Body = chunk
        return body

    def _filter(self, places: "Sequence[_Text]") -> None:
        for place in places:
            if place.text:
                self._last[place.channel] = place
                place.text = self._chain(place.channel).feed(place.text)

    def _end(self, channels: Sequence[tuple[Any, ...]]) -> None:
        """What their filters still hold is the end of the last text that each got."""
        for channel in channels:
            if rest := self._chains.pop(channel).end():
                self._last[channel].text += rest

    def _ready(self) -> bytes:
        if any(chain.holding for chain in self._chains.values()):
            return b""
        out = b"".join([one if isinstance(one, bytes) else event(one) for one in self._held])
        self._held.clear()
        return out

    def _chain(self, channel: tuple[Any, ...]) -> _Chain:
        if channel not in self._chains:
            self._chains[channel] = _Chain(self._filters(channel[1] == "arguments"))
        return self._chains[channel]
