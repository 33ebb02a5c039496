"""One request's way through the gateway, drawn from a real run.

`python -m tools.docs.trace` starts a gateway between two scripted models, streams one request through it, notes which
function of ours runs when, and draws `pictures/one-request.svg`: the lanes and numbers are the hops that
`one-request.md` tells.
"""

import asyncio
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, FrameType
from typing import Any, NamedTuple

import aiohttp

from gateway.catalog.settings import PolicySettings
from gateway.cli.loopback_gateway import RunningGateway, run_gateway
from gateway.settings import Settings
from gateway.telemetry.ledger import BATCH_PERIOD_S
from gateway.telemetry.settings import RecordSettings
from gateway.upstreams.settings import UpstreamSettings
from tools.docs.markdown import ROOT
from tools.docs.trace.picture import Mark, Span, drawn
from tools.docs.trace.scripted_model import scripted

STORY = ROOT / "docs" / "one-request.md"
PICTURE = ROOT / "docs" / "pictures" / "one-request.svg"
PACKAGES = ("gateway", "policies", "routers")
BODY = {
    "model": "auto",
    "stream": True,
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
}
SMALL = {"model": "smollm2-135m-instruct", "engine": "llamacpp"}
"""The model that the stock calibrator of `auto` is made for."""
DRAFT, DOUBT = "I think that it may well be Lyon, or some other city", -3.0
TRIES = 9
ANSWER = "The capital of France is Paris."

_HOP = re.compile(r"^(\d+)\. \[`([\w/]+\.py)`\]\([^()]+\) `([\w.]+)`", re.MULTILINE)


class Hop(NamedTuple):
    """A function that the request reaches: the first call of it after the hop before."""

    number: int
    file: str
    function: str


class Called(NamedTuple):
    """A call: when, in seconds since the request arrived, and the lane in which it stands."""

    at: float
    file: str
    function: str


class Tracer:
    """Notes each call of our functions, and how long each file ran: time in a file without a lane is its
    caller's, and time in a library that of whoever called it."""

    def __init__(self, lanes: tuple[str, ...]) -> None:
        self.calls: list[Called] = []
        self.spans: list[Span] = []
        self._lanes = lanes
        self._ours: dict[CodeType, str | None] = {}
        self._stack: list[tuple[FrameType, str | None]] = []
        self._began = self._since = 0.0

    @property
    def worked(self) -> float:
        """Seconds."""
        return sum(span.end - span.start for span in self.spans)

    @contextmanager
    def tracing(self) -> Iterator[None]:
        self._began = time.perf_counter()
        sys.setprofile(self._event)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _event(self, frame: FrameType, event: str, _: Any) -> None:
        """Coroutines are called anew each time they go on, and return each time they wait."""
        if event == "call" and (file := self._file(frame.f_code)) is not None:
            now = self._turn()
            self.calls.append(Called(now, file, frame.f_code.co_qualname))
            lane = file if file in self._lanes else self._stack[-1][1] if self._stack else None
            self._stack.append((frame, lane))
        elif event == "return" and self._stack and self._stack[-1][0] is frame:
            self._turn()
            self._stack.pop()

    def _turn(self) -> float:
        """Ends the time of whoever ran until now."""
        now = time.perf_counter() - self._began
        if self._stack and (lane := self._stack[-1][1]) is not None:
            self.spans.append(Span(lane, self._since, now))
        self._since = now
        return now

    def _file(self, code: CodeType) -> str | None:
        if code not in self._ours:
            path = Path(code.co_filename)
            inside = path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PACKAGES
            self._ours[code] = path.relative_to(ROOT).as_posix() if inside else None
        return self._ours[code]


def hops(story: str) -> list[Hop]:
    """The numbered items of the story."""
    return [Hop(int(number), file, function) for number, file, function in _HOP.findall(story)]


def lanes(found: list[Hop]) -> tuple[str, ...]:
    """The files of the hops, each once, in the order in which the request reaches them."""
    return tuple(dict.fromkeys(hop.file for hop in found))


def marks(found: list[Hop], calls: list[Called]) -> list[Mark]:
    """Where the hops stand in the trace. Raises ValueError for one that the request did not come by."""
    placed, rest = [], iter(calls)
    for hop in found:
        at = next((call.at for call in rest if (call.file, call.function) == hop[1:]), None)
        if at is None:
            raise ValueError(
                f"hop {hop.number}: {hop.file} {hop.function} is not called after the one before"
            )
        placed.append(Mark(hop.number, hop.file, at))
    return placed


async def traced(lanes: tuple[str, ...], tries: int = 1) -> Tracer:
    """A request that the small model drafts, unsure, and the large one answers: of so many tries the one that took
    least work, since a busy machine only adds. One before them is not traced: what is done once would stand out."""
    with TemporaryDirectory() as folder:
        async with scripted(DRAFT, DOUBT) as small, scripted(ANSWER, -0.01) as large:
            settings = _settings(small, large, Path(folder))
            async with run_gateway(settings) as served, aiohttp.ClientSession() as http:
                await _asked(served, http)
                tracers = [Tracer(lanes) for _ in range(tries)]
                for tracer in tracers:
                    with tracer.tracing():
                        await _asked(served, http)
                return min(tracers, key=lambda tracer: tracer.worked)


def _settings(small: str, large: str, folder: Path) -> Settings:
    upstreams = [
        {"name": "small", "tier": "slm", "url": small, **SMALL},
        {"name": "large", "tier": "llm", "url": large, "model": "large"},
    ]
    return Settings(
        local=None,
        upstreams=tuple(UpstreamSettings.model_validate({"probe": 0, **one}) for one in upstreams),
        records=RecordSettings(path=folder),
        policies=PolicySettings(reload=None),
    )


async def _asked(served: RunningGateway, http: aiohttp.ClientSession) -> None:
    """Until its exchange is booked, which is a little after the answer."""
    async with http.post(f"{served.url}/chat/completions", json=BODY) as response:
        answer = await response.read()
        assert b"Paris" in answer, answer  # noqa: S101  else the picture is of another story
    await asyncio.sleep(2 * BATCH_PERIOD_S)


def main() -> None:
    found = hops(STORY.read_text(encoding="utf-8"))
    tracer = asyncio.run(traced(lanes(found), TRIES))
    PICTURE.write_text(drawn(lanes(found), tracer.spans, marks(found, tracer.calls)), encoding="utf-8")
