"""Legs run together: what one leg does to the other."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from gateway.engine.race import RaceLeg, race
from routers.plan import Both, Draft, Generate, Raced, Unavailable


class Quiet:
    """A reply that nobody reads."""

    begun = False

    async def events(self, events: list[Any]) -> None:
        self.begun = True


class Leg:
    """Waits for ever, and notes how that ends."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.cancelled = False

    async def __call__(self, lane: RaceLeg) -> Draft:
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        raise AssertionError


def raced(a: Any, b: Any, over: bool = False) -> Coroutine[Any, Any, Raced]:
    legs = {"slm": a, "llm": b}
    both = Both(Generate("slm"), Generate("llm"))
    return race(both, Quiet(), lambda ask, leg: legs[ask.tier](leg), lambda: over)  # type: ignore[arg-type]


async def test_a_leg_that_fails_unforeseen_does_not_leave_the_other_behind():
    waiting = Leg()

    async def broken(lane: RaceLeg) -> Draft:
        await waiting.began.wait()
        raise RuntimeError("a mistake of ours")

    for legs in ((waiting, broken), (broken, waiting)):
        waiting.cancelled = False
        with pytest.raises(RuntimeError, match="a mistake of ours"):
            await raced(*legs)
        assert waiting.cancelled


async def test_a_leg_that_has_failed_leaves_the_floor_to_the_other():
    async def failing(lane: RaceLeg) -> Draft:
        raise Unavailable("down", "slm")

    async def writing(lane: RaceLeg) -> Draft:
        await lane.events([])
        return Draft("llm", "yes")

    small, large = await raced(failing, writing)
    assert isinstance(small, Unavailable)
    assert large == Draft("llm", "yes")


@pytest.mark.parametrize("over", [True, False])
async def test_a_cancelled_race_cancels_both_and_goes_on_only_out_of_time(over: bool):
    async def out_of_time(lane: RaceLeg) -> Draft:
        try:
            return await waiting(lane)
        except asyncio.CancelledError:
            raise Unavailable("ceiling", "slm") from None

    waiting, other = Leg(), Leg()
    running = asyncio.ensure_future(raced(out_of_time, out_of_time if over else other, over))
    await waiting.began.wait()
    running.cancel()
    if over:
        assert [leg.why for leg in await running if isinstance(leg, Unavailable)] == ["ceiling", "ceiling"]
    else:
        with pytest.raises(asyncio.CancelledError):
            await running
        assert other.cancelled
    assert waiting.cancelled
