"""Deadlines, many to one timer."""

import asyncio
from typing import Any

from waiting import until

from gateway.deadlines import Deadlines


async def test_an_act_that_fails_takes_no_other_deadline_with_it():
    failed: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context["exception"]))
    deadlines, come = Deadlines(), []

    def fails() -> None:
        raise ZeroDivisionError

    deadlines.after(0.0, fails)
    deadlines.after(0.03, lambda: come.append("after it"))
    await until(lambda: come)
    deadlines.after(0.0, lambda: come.append("set later"))
    await until(lambda: len(come) == 2)
    assert [type(error) for error in failed] == [ZeroDivisionError]


async def test_one_that_is_cancelled_or_postponed_does_not_come_when_it_was_due():
    deadlines, come = Deadlines(), []
    deadlines.after(0.0, lambda: come.append("cancelled")).cancel()
    deadlines.after(0.0, lambda: come.append("postponed")).postpone(60.0)
    deadlines.after(0.0, lambda: come.append("due"))
    await until(lambda: come)
    assert come == ["due"]
    assert len(deadlines.pending) == 1
