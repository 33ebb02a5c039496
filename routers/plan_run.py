"""Runs plans: the one place that sends outcomes into a plan and throws failures into it."""

from collections.abc import Callable
from typing import Generic, TypeVar

from .plan import Ask, Fragment, Outcome, Plan, Unavailable

T = TypeVar("T")
Perform = Callable[[Ask], Fragment[Outcome]]


class PlanRun(Generic[T]):
    """A plan under way, for whoever performs its asks and tells it each outcome.

    `ask` is the plan's next ask; None once the plan has returned `result`. Whoever stops earlier closes the plan.
    """

    result: T

    def __init__(self, plan: Fragment[T]) -> None:
        self._plan = plan
        self.ask: Ask | None = None
        self.tell(None)

    def tell(self, outcome: Outcome | Unavailable | None) -> None:
        """Tell the plan what came of its ask; None starts it. Raises what the plan lets through."""
        try:
            if isinstance(outcome, Unavailable):
                self.ask = self._plan.throw(outcome)
            else:
                self.ask = self._plan.send(outcome)  # type: ignore[arg-type]  # None only starts it
        except StopIteration as stop:
            self.ask, self.result = None, stop.value


def intercept_asks(
    plan: Plan, perform: Perform, is_final: Callable[[Ask, Unavailable], bool] = lambda ask, failure: False
) -> Plan:
    """Run `plan`, performing each of its asks with the fragment `perform`.

    The plan never learns of a failure that `is_final`: it ends the run.
    """
    try:
        run = PlanRun(plan)
        while (ask := run.ask) is not None:
            try:
                outcome = yield from perform(ask)
            except Unavailable as failure:
                if is_final(ask, failure):
                    raise
                run.tell(failure)
            else:
                run.tell(outcome)
        return run.result
    finally:
        plan.close()
