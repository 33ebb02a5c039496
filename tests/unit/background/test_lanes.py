"""Background work runs one piece at a time; on an engine that requests use it takes a bounded share of their time."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.background import lanes
from gateway.background.lanes import Lane, YieldingLane

SHARE = 0.1


class Work:
    """Pieces of work that end when a test says so. `begun` lists each start."""

    def __init__(self) -> None:
        self.now = 100.0
        self.begun: list[str] = []
        self.done: list[str] = []
        self._gate = asyncio.Event()

    async def __call__(self, item: str) -> None:
        self.begun.append(item)
        self._gate = asyncio.Event()
        await self._gate.wait()
        self.done.append(item)

    async def end(self) -> None:
        self._gate.set()
        await settle()


async def settle() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


def lane_of(work: Work) -> YieldingLane[str]:
    return YieldingLane(work, SHARE, clock=lambda: work.now)


async def test_work_beside_requests_runs_one_at_a_time_in_order() -> None:
    work = Work()
    lane = Lane(work)
    assert lane.add("a")
    assert lane.add("b")
    await settle()
    assert work.begun == ["a"]
    await work.end()
    assert (work.begun, work.done) == (["a", "b"], ["a"])
    await lane.close()
    assert work.done == ["a"]


async def test_a_full_lane_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "MAX_WAITING", 1)
    lane = Lane(Work())
    assert [lane.add("running"), lane.add("waiting"), lane.add("too many")] == [True, True, False]
    await lane.close()


async def test_work_that_has_used_its_share_yields_to_a_request_and_starts_anew_with_its_next_share() -> None:
    work = Work()
    lane = lane_of(work)
    lane.begin_request()
    lane.add("first")
    await settle()
    work.now += 1.0
    await work.end()  # a second beside requests: nine seconds without follow
    lane.end_request()
    lane.add("second")
    await settle()
    assert work.begun == ["first", "second"]  # no request is in flight
    lane.begin_request()
    await settle()
    assert work.done == ["first"]
    work.now += 8.0
    lane.end_request()
    await settle()
    assert work.begun == ["first", "second"]  # once interrupted, it waits for its share
    work.now += 1.0
    lane.begin_request()
    lane.resume()
    await settle()
    assert work.begun == ["first", "second", "second"]
    lane.begin_request()
    await work.end()
    assert work.done == ["first", "second"]
    await lane.close()


async def test_a_share_begins_by_itself_under_steady_traffic() -> None:
    """Nobody calls the lane again meanwhile."""
    work = Work()
    lane = YieldingLane(work, SHARE)
    lane.begin_request()
    lane.add("first")
    lane.add("second")
    await settle()
    await work.end()
    async with asyncio.timeout(30):
        while work.begun != ["first", "second"]:
            await asyncio.sleep(0)
    await lane.close()


@given(
    st.lists(st.tuples(st.sampled_from(["begin", "end", "add", "done"]), st.floats(0.0, 20.0)), max_size=60)
)
async def test_work_never_takes_more_than_its_share_beside_requests(steps: list[tuple[str, float]]) -> None:
    work = Work()
    lane = lane_of(work)
    requests, beside = 0, 0.0
    for kind, seconds in steps:
        running = len(work.begun) > len(work.done) and lane._task is not None
        if running and requests:
            beside += seconds
        work.now += seconds
        if kind == "begin":
            requests += 1
            lane.begin_request()
        elif kind == "end" and requests:
            requests -= 1
            lane.end_request()
        elif kind == "add":
            lane.add("work")
        elif kind == "done" and running:
            started = work.now
            await work.end()
            assert beside == 0.0 or lane._shares_from >= started + beside * (1 / SHARE - 1) - 1e-6
            beside = 0.0
        await settle()
        if not (len(work.begun) > len(work.done) and lane._task is not None):
            beside = 0.0
    await lane.close()
