"""The tables, the three bars and the JSON of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import fmean, median

from benchmarks.overhead.measure import Sample
from benchmarks.overhead.targets import BARE, DIRECT, SMALLFIRST_CASCADE, SMALLFIRST_DIRECT

PLAIN = "plain"
SATURATED = "stream saturated"
PACED = "stream paced"

_MIB = 1024 * 1024
_TOLERANCE = 0.01


@dataclass(frozen=True)
class Spread:
    """A median over rounds with its range."""

    median: float
    low: float
    high: float

    def text(self, digits: int) -> str:
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


def spread(values: list[float]) -> Spread | None:
    """Nothing for no values."""
    return Spread(median(values), min(values), max(values)) if values else None


@dataclass(frozen=True)
class Line:
    """One row of one scenario over all rounds; times in microseconds."""

    scenario: str
    row: str
    cpu: Spread | None
    ratio: Spread | None
    """CPU over the bare row's CPU of the same round."""
    cpu_per_token: Spread | None
    added: Spread | None
    """Median latency over the direct row's of the same round."""
    per_second: float
    rss: float | None
    upstream_requests: float
    upstream_logprobs: float

    @property
    def odd(self) -> str | None:
        """Why the row does not stand for its name: one upstream call each, the cascade's with logprobs."""
        logprobs = 1.0 if self.row == SMALLFIRST_CASCADE else 0.0
        off = max(abs(self.upstream_requests - 1.0), abs(self.upstream_logprobs - logprobs))
        if off <= _TOLERANCE:
            return None
        return (
            f"{self.scenario}, {self.row}: {self.upstream_requests:.2f} upstream calls a request, "
            f"{self.upstream_logprobs:.2f} with log-probabilities; expected 1 and {logprobs:.0f}"
        )


def line(samples: list[Sample], scenario: str, row: str, tokens: int) -> Line:
    """Sum up one row of one scenario."""
    by_key = {(one.row, one.round): one for one in samples if one.scenario == scenario}
    own = [one for one in by_key.values() if one.row == row]
    cpu = [one.cpu for one in own if one.cpu is not None]
    ratios, added = [], []
    for one in own:
        bare, direct = by_key.get((BARE, one.round)), by_key.get((DIRECT, one.round))
        if one.cpu is not None and bare is not None and bare.cpu:
            ratios.append(one.cpu / bare.cpu)
        if direct is not None and row != DIRECT:
            added.append(one.alone_p50 - direct.alone_p50)
    rss = [one.rss / _MIB for one in own if one.rss is not None]
    return Line(
        scenario=scenario,
        row=row,
        cpu=spread(cpu),
        ratio=spread(ratios),
        cpu_per_token=spread([value / tokens for value in cpu]) if scenario == SATURATED else None,
        added=spread(added),
        per_second=median(one.per_second for one in own),
        rss=median(rss) if rss else None,
        upstream_requests=fmean(one.upstream_requests for one in own),
        upstream_logprobs=fmean(one.upstream_logprobs for one in own),
    )


def by_name(lines: list[Line]) -> dict[str, dict[str, object]]:
    """As plain values, by scenario and row."""
    found: dict[str, dict[str, object]] = {}
    for one in lines:
        found.setdefault(one.scenario.replace(" ", "_"), {})[one.row.replace(" ", "_")] = asdict(one)
    return found


def _cell(value: Spread | None, digits: int) -> str:
    return value.text(digits) if value else "–"


def table(lines: list[Line]) -> str:
    """The Markdown table of one scenario."""
    per_token = any(one.cpu_per_token for one in lines)
    heads = ["row", "CPU µs/request", "ratio to bare", "added p50 µs", "requests/s", "RSS MB"]
    rows = [
        [
            one.row,
            _cell(one.cpu, 0),
            _cell(one.ratio, 2),
            _cell(one.added, 0),
            f"{one.per_second:.0f}",
            "–" if one.rss is None else f"{one.rss:.0f}",
        ]
        for one in lines
    ]
    if per_token:
        heads.insert(2, "CPU µs/token")
        for cells, one in zip(rows, lines, strict=True):
            cells.insert(2, _cell(one.cpu_per_token, 1))
    grid = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in grid)


@dataclass(frozen=True)
class Bar:
    """A promise with what was measured."""

    text: str
    limit: float
    measured: float | None
    inclusive: bool = True

    @property
    def passed(self) -> bool:
        if self.measured is None:
            return False
        return self.measured <= self.limit if self.inclusive else self.measured < self.limit

    def line(self) -> str:
        if self.measured is None:
            return f"- {self.text}: not measured"
        return f"- {self.text}: {self.measured:.2f}, {'pass' if self.passed else 'FAIL'}"


def bars(lines: list[Line]) -> list[Bar]:
    """The three promises; a row that does not stand for its name measures none."""
    found = {(one.scenario, one.row): one for one in lines if one.odd is None}
    plain = found.get((PLAIN, SMALLFIRST_DIRECT))
    paced = found.get((PACED, SMALLFIRST_CASCADE))
    full = found.get((SATURATED, SMALLFIRST_CASCADE))
    return [
        Bar(
            "plain, smallfirst direct: CPU at most 1.5 times bare",
            1.5,
            plain.ratio.median if plain and plain.ratio else None,
        ),
        Bar(
            "paced stream, smallfirst cascade: CPU at most 2.0 times bare without log-probabilities",
            2.0,
            paced.ratio.median if paced and paced.ratio else None,
        ),
        Bar(
            "saturated stream, smallfirst cascade: under 30 µs of CPU per token",
            30.0,
            full.cpu_per_token.median if full and full.cpu_per_token else None,
            inclusive=False,
        ),
    ]
