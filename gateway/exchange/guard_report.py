"""Reports what the guard of its policy found in an exchange."""

from typing import Any

from routers.plan import Judge, Reason

from .exchange import Exchange


def report_guard(exchange: Exchange) -> None:
    """Set the exchange's `guard` report: P(harmful) by name, what was flagged last, and the number of prompt leaks."""
    guard = exchange.policy.guard
    if guard is None:
        return
    report: dict[str, Any] = {}
    thresholds = {"input": guard.input, "output": guard.output, "instead": guard.output}
    active = {name: threshold for name, threshold in thresholds.items() if threshold is not None}
    for (name, threshold), p in zip(active.items(), _list_probabilities(exchange), strict=False):
        if p is not None:
            report[name] = round(p, 4)
            report |= {"flagged": name} if p >= threshold else {}
    if leaks := sum(call.outcome == "leak" for call in exchange.calls):
        report["leaks"] = leaks
    if report:
        exchange.skills["guard"] = report


def _list_probabilities(exchange: Exchange) -> list[float | None]:
    """Return P(harmful) of each of the guard's judgements, in order; None if no judge could answer."""
    return [
        None if call.judged is None else call.judged.p[call.ask.labels[0]]
        for call in exchange.calls
        if isinstance(call.ask, Judge) and call.ask.because is Reason.GUARDED and not call.retried
    ]
