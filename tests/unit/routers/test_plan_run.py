"""A plan is told outcomes and failures in one place, and is closed however its run ends."""

import pytest

from routers.plan import Answer, Draft, Fragment, Generate, Outcome, Plan, Reason, Unavailable
from routers.plan_run import PlanRun, intercept_asks

DRAFT = Draft("slm", "Cold.")
DOWN = Unavailable("down", "slm", "gone")


class Asking:
    """A plan of two asks that makes up for a failed first one. `seen` is what it was told; `is_closed` at its end."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.is_closed = False

    def plan(self) -> Plan:
        try:
            for tier in ("slm", "llm"):
                try:
                    self.seen.append((yield Generate(tier)))
                except Unavailable as failure:
                    self.seen.append(failure)
            return Answer((DRAFT,), Reason.POLICY)
        finally:
            self.is_closed = True


def ask_as_it_is(ask: Generate) -> Fragment[Outcome]:  # type: ignore[type-arg]
    return (yield ask)


def test_a_plan_is_told_outcomes_and_failures_until_it_returns():
    asking = Asking()
    run = PlanRun(asking.plan())
    assert run.ask == Generate("slm")
    run.tell(DOWN)
    assert run.ask == Generate("llm")
    run.tell(DRAFT)
    assert (run.ask, run.result.parts, asking.seen) == (None, (DRAFT,), [DOWN, DRAFT])


def test_an_intercepted_plan_is_told_the_same():
    asking = Asking()
    run = PlanRun(intercept_asks(asking.plan(), ask_as_it_is))
    run.tell(DOWN)
    run.tell(DRAFT)
    assert (run.result.parts, asking.seen, asking.is_closed) == ((DRAFT,), [DOWN, DRAFT], True)


def test_a_final_failure_ends_the_plan_that_would_have_made_up_for_it():
    asking = Asking()
    seen = []

    def is_final(ask: object, failure: Unavailable) -> bool:
        seen.append((ask, failure))
        return True

    run = PlanRun(intercept_asks(asking.plan(), ask_as_it_is, is_final))
    with pytest.raises(Unavailable) as raised:
        run.tell(DOWN)
    assert raised.value is DOWN
    assert (seen, asking.seen, asking.is_closed) == ([(Generate("slm"), DOWN)], [], True)


def test_an_intercepted_plan_that_is_closed_closes_the_plan_inside():
    asking = Asking()
    outer = intercept_asks(asking.plan(), ask_as_it_is)
    next(outer)
    outer.close()
    assert asking.is_closed


def test_another_exception_passes_by_the_plan():
    asking = Asking()
    outer = intercept_asks(asking.plan(), ask_as_it_is)
    next(outer)
    with pytest.raises(KeyError):
        outer.throw(KeyError("x"))
    assert (asking.seen, asking.is_closed) == ([], True)
