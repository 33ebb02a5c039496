"""Slots: never more in flight than allowed, nobody forgotten, nothing leaked."""

import asyncio
import random

import pytest

from gateway.upstreams.resilience.concurrency import QueueFull, Slots


async def taken(slots: Slots) -> None:
    if not slots.try_acquire():
        await slots.wait()


async def test_who_waits_longest_goes_first():
    slots = Slots(1, 10)
    assert slots.try_acquire()
    order: list[int] = []

    async def one(number: int) -> None:
        await taken(slots)
        order.append(number)
        slots.release()

    waiting = [asyncio.create_task(one(number)) for number in range(5)]
    await asyncio.sleep(0)
    assert slots.waiting == 5
    slots.release()
    await asyncio.gather(*waiting)
    assert order == [0, 1, 2, 3, 4]
    assert slots.try_acquire()


async def test_a_full_queue_refuses():
    slots = Slots(1, 1)
    assert slots.try_acquire()
    first = asyncio.create_task(slots.wait())
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await slots.wait()
    slots.release()
    await first


@pytest.mark.parametrize("handed", [True, False], ids=["as its slot is handed over", "while it waits"])
async def test_a_waiter_that_is_cancelled_leaks_no_slot(handed: bool):
    slots = Slots(1, 4)
    assert slots.try_acquire()
    waiter = asyncio.create_task(slots.wait())
    await asyncio.sleep(0)
    if handed:
        slots.release()
        waiter.cancel()
    else:
        waiter.cancel()
        slots.release()
    await asyncio.gather(waiter, return_exceptions=True)
    assert slots.waiting == 0
    assert slots.try_acquire()
    assert not slots.try_acquire()


@pytest.mark.parametrize("seed", range(20))
async def test_any_mix_of_waiting_leaving_and_releasing_keeps_the_bound(seed: int):
    rng = random.Random(seed)
    slots, busy, most = Slots(3, 100), 0, 0

    async def one() -> None:
        nonlocal busy, most
        await taken(slots)
        busy += 1
        most = max(most, busy)
        try:
            for _ in range(rng.randint(0, 3)):
                await asyncio.sleep(0)
        finally:
            busy -= 1
            slots.release()

    tasks = []
    for _ in range(60):
        tasks.append(asyncio.create_task(one()))
        if rng.random() < 0.3:
            victim = rng.choice(tasks)
            if slots.waiting and not victim.done():
                victim.cancel()
        if rng.random() < 0.5:
            await asyncio.sleep(0)
    done = await asyncio.gather(*tasks, return_exceptions=True)
    lost = sum(isinstance(one, asyncio.CancelledError) for one in done)
    assert most <= 3
    assert lost < 60
    assert slots.waiting == 0
