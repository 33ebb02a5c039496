"""What the benchmark of speculation computes, without a server: played answers, fitted lines, comparisons."""

from collections.abc import Sequence

import pytest

from benchmarks.speculation import Run, compared, line, misses, played
from routers.fragments.speedup import Costs, forecast

OWN = list(range(100, 164))
COSTS = Costs(0.03, 0.01, 0.002, 0.0, 0.0)


class Sure:
    """Writes always the same, and verifies by that; remembers the lengths of the blocks."""

    def __init__(self) -> None:
        self.blocks: list[int] = []

    def write(self, prompt: Sequence[int], most: int) -> list[int]:
        return OWN[:most]

    def verify(self, prompt: Sequence[int], block: Sequence[int]) -> list[int]:
        self.blocks.append(len(block))
        at = len(prompt) - 2
        right = next((i for i, token in enumerate(block) if token != OWN[at + i]), len(block))
        return OWN[at : at + right + 1]


@pytest.mark.parametrize(
    ("accept", "block", "calls", "accepted", "rejected"), [(1.0, 7, 8, 56, 0), (0.0, 7, 64, 0, 63)]
)
def test_an_answer_is_played_to_its_end(accept: float, block: int, calls: int, accepted: int, rejected: int):
    server = Sure()
    run = played(server, [1, 2], 64, lambda length: block, accept)  # type: ignore[arg-type]
    assert (run.calls, run.accepted, run.rejected) == (calls, accepted, rejected)
    assert run.calls == pytest.approx(forecast(accept, COSTS, 2, 64, block).calls)
    assert max(server.blocks) == block


def test_runs_that_took_what_was_foretold_are_missed_by_nothing():
    told = forecast(0.5, COSTS, 40, 20, 4)
    run = Run(40, 20, round(told.calls), 50, 50, told.seconds, told.alone_seconds)
    row = compared(COSTS, [run, run], 4)
    assert (row["accept"], row["runs"]) == (0.5, 2)
    assert row["seconds"]["forecast"] == row["seconds"]["measured"]
    assert misses([row]) == {"median": 0.0, "low": 0.0, "high": 0.0}


@pytest.mark.parametrize(("call", "token"), [(0.05, 0.002), (0.0, 0.002)])
def test_a_line_is_found_through_medians(call: float, token: float):
    samples = {length: [call + token * length, 9.0, 0.0] for length in (64, 256, 768)}
    assert line(samples) == pytest.approx((call, token), abs=1e-9)


def test_no_call_takes_less_than_nothing():
    call, token = line({10: [0.01], 20: [0.05]})
    assert call == 0.0
    assert token > 0.0
