"""A picture of who ran when, as SVG: a lane a file, time to the right, waiting cut short. It reads on light and on
dark paper."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple
from xml.sax.saxutils import escape

LEFT, RIGHT, TOP, LANE, FOOT = 252, 24, 16, 26, 30
WIDTH = 1180
WAIT = 0.0004
"""Seconds of nobody's work that count as waiting."""
GAP = 13.0
"""Pixels that stand for any wait."""
THIN = 1.2
"""Pixels of the shortest span."""

STYLE = """\
  text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #57606a }
  .number { font-size: 9.5px; font-weight: 700; text-anchor: middle; fill: #fff }
  .line { stroke: #8c959f; stroke-opacity: .35 }
  .wait { fill: #8c959f; fill-opacity: .16 }
  .gateway { fill: #0969da }
  .policies { fill: #bf8700 }
  .routers { fill: #1a7f37 }
  .hop { fill: #cf222e }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1 }
    .number { fill: #fff }
    .gateway { fill: #58a6ff }
    .policies { fill: #d29922 }
    .routers { fill: #3fb950 }
    .hop { fill: #da3633 }
  }"""


class Span(NamedTuple):
    """A lane's time, in seconds."""

    lane: str
    start: float
    end: float


class Mark(NamedTuple):
    """A number at a place in a lane."""

    number: int
    lane: str
    at: float


class Axis:
    """Seconds -> pixels: work is drawn to scale, a wait as a gap."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.waits = list(_waits(spans))
        self._start, end = spans[0].start, max(span.end for span in spans)
        waited = sum(after - before for before, after in self.waits)
        room = WIDTH - LEFT - RIGHT - GAP * len(self.waits)
        self._scale = room / (end - self._start - waited)
        self.milliseconds_per_100_pixels = 100_000 / self._scale

    def x(self, at: float) -> float:
        x = LEFT + (at - self._start) * self._scale
        for before, after in self.waits:
            if at >= after:
                x += GAP - (after - before) * self._scale
            elif at > before:
                x += (GAP / (after - before) - self._scale) * (at - before)
        return x


def _waits(spans: Sequence[Span]) -> Iterator[tuple[float, float]]:
    for one, following in pairwise(spans):
        if following.start - one.end > WAIT:
            yield one.end, following.start


def drawn(lanes: Sequence[str], spans: Sequence[Span], marks: Iterable[Mark]) -> str:
    """The picture. `spans` stand in the order of their times and do not overlap."""
    axis = Axis(spans)
    height = TOP + LANE * len(lanes) + FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-label="One request&#8217;s way through the files of the gateway">',
        f"<style>\n{STYLE}\n</style>",
        *_ground(axis, len(lanes)),
    ]
    for place, lane in enumerate(lanes):
        parts += _lane(lane, place, [span for span in spans if span.lane == lane], axis)
    parts += [part for mark in marks for part in _mark(mark, lanes.index(mark.lane), axis)]
    return "\n".join([*parts, *_legend(axis, height), "</svg>", ""])


def _ground(axis: Axis, count: int) -> Iterator[str]:
    for before, after in axis.waits:
        x = axis.x(before)
        width = axis.x(after) - x
        yield f'<rect class="wait" x="{x:.1f}" y="{TOP}" width="{width:.1f}" height="{LANE * count}"/>'


def _lane(lane: str, place: int, spans: list[Span], axis: Axis) -> Iterator[str]:
    y = TOP + LANE * place
    package = lane.partition("/")[0]
    yield f'<g class="{package}" data-lane="{escape(lane)}">'
    yield f'<text x="{LEFT - 10}" y="{y + LANE / 2 + 4}" text-anchor="end">{escape(lane)}</text>'
    yield f'<line class="line" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y + LANE / 2}" y2="{y + LANE / 2}"/>'
    for x, width in _bars(spans, axis):
        yield f'<rect x="{x:.1f}" y="{y + 6}" width="{width:.1f}" height="{LANE - 12}"/>'
    yield "</g>"


def _bars(spans: list[Span], axis: Axis) -> Iterator[tuple[float, float]]:
    """Spans that touch on paper are one bar."""
    begun: tuple[float, float] | None = None
    for span in spans:
        x, end = axis.x(span.start), axis.x(span.end)
        if begun is not None and x - begun[1] < 1.0:
            begun = begun[0], max(begun[1], end)
            continue
        if begun is not None:
            yield begun[0], max(THIN, begun[1] - begun[0])
        begun = x, end
    if begun is not None:
        yield begun[0], max(THIN, begun[1] - begun[0])


def _mark(mark: Mark, place: int, axis: Axis) -> Iterator[str]:
    x, y = axis.x(mark.at), TOP + LANE * place + LANE / 2
    yield f'<circle class="hop" cx="{x:.1f}" cy="{y}" r="8"/>'
    yield f'<text class="number" x="{x:.1f}" y="{y + 3.4}">{mark.number}</text>'


def _legend(axis: Axis, height: int) -> Iterator[str]:
    scale = f"100 px: {axis.milliseconds_per_100_pixels:.2g} ms of work, slowed down by the tracing"
    yield f'<text x="{LEFT}" y="{height - 10}">grey: waiting, cut short. {scale}. Numbers: the hops.</text>'
