"""What the guard of its policy found in an exchange, for the account of it."""

from typing import Any

from routers.plan import Judge, Reason

from .exchange import Exchange


def report_guard(exchange: Exchange) -> None:
    """The probabilities that were read, what was flagged last, and how many answers gave the system prompt away."""
    guard = exchange.policy.guard
    if guard is None:
        return
    found: dict[str, Any] = {}
    thresholds = {"input": guard.input, "output": guard.output, "instead": guard.output}
    asked = {name: threshold for name, threshold in thresholds.items() if threshold is not None}
    for (name, threshold), p in zip(asked.items(), _judgements(exchange), strict=False):
        if p is not None:
            found[name] = round(p, 4)
            found |= {"flagged": name} if p >= threshold else {}
    if leaks := sum(call.outcome == "leak" for call in exchange.calls):
        found["leaks"] = leaks
    if found:
        exchange.skills["guard"] = found


def _judgements(exchange: Exchange) -> list[float | None]:
    """P(harmful) as the guard was told, in order; None where the judge could not be had."""
    return [
        None if call.judged is None else call.judged.p[call.ask.labels[0]]
        for call in exchange.calls
        if isinstance(call.ask, Judge) and call.ask.because is Reason.GUARDED and not call.retried
    ]
