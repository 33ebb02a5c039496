"""Many deadlines checked by one timer, and the timeouts of tasks."""

import asyncio
from typing import Any

import pytest
from support.waiting import PATIENCE, until

from gateway.timers import Deadlines, TaskTimeout


async def test_an_act_that_fails_takes_no_other_deadline_with_it():
    failed: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context["exception"]))
    deadlines, come = Deadlines(), []

    def fails() -> None:
        raise ZeroDivisionError

    deadlines.schedule(0.0, fails)
    deadlines.schedule(0.03, lambda: come.append("after it"))
    await until(lambda: come)
    deadlines.schedule(0.0, lambda: come.append("set later"))
    await until(lambda: len(come) == 2)
    assert [type(error) for error in failed] == [ZeroDivisionError]


async def test_one_that_is_cancelled_or_postponed_does_not_come_when_it_was_due():
    deadlines, come = Deadlines(), []
    deadlines.schedule(0.0, lambda: come.append("cancelled")).cancel()
    deadlines.schedule(0.0, lambda: come.append("postponed")).postpone(60.0)
    deadlines.schedule(0.0, lambda: come.append("due"))
    await until(lambda: come)
    assert come == ["due"]
    assert len(deadlines.pending) == 1


async def caught(limit: TaskTimeout) -> bool:
    """What the limit says of the cancellation that its task waits for."""
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.Event().wait(), PATIENCE)
    return limit.consume()


def current() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def test_a_task_whose_limit_was_caught_goes_on_as_if_never_cancelled():
    assert await caught(TaskTimeout(Deadlines(), 0.0))
    assert current().cancelling() == 0


async def test_a_time_limit_around_one_that_was_caught_still_ends_in_a_timeout():
    async def goes_on() -> None:
        async with asyncio.timeout(PATIENCE) as around:
            assert await caught(TaskTimeout(Deadlines(), 0.0))
            around.reschedule(0.0)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await goes_on()


async def test_a_limit_that_passes_as_somebody_else_cancels_is_not_caught():
    deadlines, task = Deadlines(), current()

    def cancel() -> None:
        task.cancel()

    deadlines.schedule(0.0, cancel)
    limit = TaskTimeout(deadlines, 0.0)
    assert not await caught(limit)
    assert limit.overruled
    assert task.uncancel() == 0


async def test_what_was_asked_of_the_task_before_is_not_the_limits():
    """As under a scope that has cancelled it, and let it go on."""
    task = current()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.Event().wait()
    limit = TaskTimeout(Deadlines(), 0.0)
    assert await caught(limit)
    assert not limit.overruled
    assert task.uncancel() == 0
