"""The tree of what a policy's plan would do, by the possible outcomes of each ask. No model is called."""

from collections.abc import Iterator, Sequence
from functools import singledispatch
from typing import NamedTuple

from policies.schema.compress import Compress
from policies.schema.policy import Policy
from routers.fragments.passage_filter import PassageFilter
from routers.judges.guard import Guard
from routers.plan import (
    Answer,
    Ask,
    Both,
    Generate,
    Judge,
    Outcome,
    Reason,
    Say,
    Score,
    Unavailable,
    Watch,
)
from routers.plan_run import PlanRun
from routers.router import Request, Router
from routers.watch import ConfidenceWatch, HeldWatch, ObservingWatch

from .hypotheses import list_hypotheses

MAX_DEPTH = 5
"""Maximum number of consecutive asks in the tree."""


class Step(NamedTuple):
    """A description of an ask and what follows each of its outcomes, or of an end."""

    text: str
    branches: tuple["Branch", ...] = ()


class Branch(NamedTuple):
    """A step and all outcomes of the previous ask that lead to it."""

    when: tuple[str, ...]
    then: Step


def build_tree(router: Router, request: Request, depth: int = MAX_DEPTH) -> Step:
    """Return the tree of what the router's plan does with the request, up to `depth` asks deep."""
    return _build_step(router, request, (), depth)


def describe_preparation(policy: Policy, request: Request) -> Iterator[str]:
    """Yield a line for each step of the policy before its router: filter, guard, compression."""
    if policy.filter is not None and request.passages:
        yield _describe_filter(policy.filter, request.passages)
    if policy.guard is not None and policy.guard.asks_model:
        yield _describe_guard(policy.guard)
    if policy.compress is not None and {"slm", "llm"} <= request.tiers:
        yield _describe_compression(policy.compress)


def _describe_filter(section: PassageFilter, count: int) -> str:
    limit = f", at most {section.most}" if section.most is not None else ""
    order = {"edges": "the best first and last", "best_first": "the best first", "given": "as they came"}
    how = "the question's likelihood after it" if section.by == "likelihood" else "P(yes)"
    return (
        f"have the {section.tier} judge each of the {count} passages ({how}, {count} calls), "
        f"and show those at >= {section.bar:g}, at least {section.least}{limit}, {order[section.order]}; "
        f"all as given where it can't"
    )


def _describe_guard(guard: Guard) -> str:
    parts = {"the request": guard.input, "the answer, which is held to its end": guard.output}
    targets = [f"{what} (flagged at >= {least:g})" for what, least in parts.items() if least is not None]
    return f"have the {guard.tier} judge {' and '.join(targets)}; what is flagged: {guard.action}"


def _describe_compression(compress: Compress) -> str:
    target = (
        f"{compress.target_tokens} tokens"
        if compress.target_ratio is None
        else f"{compress.target_ratio:.0%}"
    )
    unless = {"both": "time or money", "money": "money"}.get(compress.worth)
    worth = f", unless that costs more {unless} than it saves" if unless else ""
    return (
        f"whenever the llm is to write: have the slm read a prompt of {compress.min_tokens} tokens or more, and leave "
        f"{target} of it{worth}"
    )


def to_lines(step: Step, lead: str = "", indent: str = "") -> Iterator[str]:
    """Yield the tree as text, one line a step."""
    yield f"{indent}{lead}{step.text}"
    for branch in step.branches:
        *first, last = branch.when
        when = f"{', '.join(first)} or {last}" if first else last
        yield from to_lines(branch.then, f"if {when}: ", f"{indent}  ")


def _build_step(
    router: Router, request: Request, outcomes: tuple[Outcome | Unavailable, ...], depth: int
) -> Step:
    """Return the step after `outcomes`. A generator cannot be forked, so each step runs the plan anew."""
    try:
        run = _run_plan(router, request, outcomes)
    except Unavailable as failure:
        is_own = bool(outcomes) and failure is outcomes[-1]
        return Step(
            "fail with its error" if is_own else f"fail with the {failure.tier}'s error ({failure.why})"
        )
    if run.ask is None:
        return Step(_describe_answer(run.result))
    if len(outcomes) == depth:
        return Step("and so on")
    branches: dict[Step, list[str]] = {}
    for when, outcome in list_hypotheses(run.ask, request):
        branches.setdefault(_build_step(router, request, (*outcomes, outcome), depth), []).append(when)
    return Step(describe_ask(run.ask), tuple(Branch(tuple(when), then) for then, when in branches.items()))


def _run_plan(router: Router, request: Request, outcomes: Sequence[Outcome | Unavailable]) -> PlanRun[Answer]:
    """Return the plan after `outcomes`. Raises what it lets through."""
    run = PlanRun(router.plan(request))
    for outcome in outcomes:
        run.tell(outcome)
    return run


def _describe_answer(answer: Answer) -> str:
    parts = "" if len(answer.parts) == 1 else f", in {len(answer.parts)} parts"
    return f"serve the {answer.route} answer{parts} (reason {answer.reason})"


# --- each kind of ask


@singledispatch
def describe_ask(ask: Ask) -> str:
    """Return what is asked, in words. Raises TypeError for an unknown kind of ask."""
    raise TypeError(f"{type(ask).__name__} is no ask that can be described")


@describe_ask.register
def _(ask: Generate) -> str:
    because = "" if ask.because is Reason.POLICY else f" ({ask.because})"
    parts = [
        f"ask the {ask.tier}{because}",
        "to go on from what was delivered" if ask.prefix else "",
        describe_watch(ask.watch()) if ask.watch else "",
        f"waiting up to {ask.patience:g} s for its restart" if ask.patience else "",
    ]
    return ", ".join(part for part in parts if part)


@describe_ask.register
def _(ask: Judge) -> str:
    if ask.samples:
        return (
            f"have the {ask.tier} write {ask.samples} more, and compare the draft with them by {ask.compare}"
        )
    what = "the draft" if ask.passage is None else f"passage {ask.passage}"
    how = " or ".join(ask.labels) or "how likely the request is after it"
    return f"have the {ask.tier} judge {what} ({how})"


@describe_ask.register
def _(ask: Score) -> str:
    return f"have the {ask.tier} verify what was drafted"


@describe_ask.register
def _(ask: Say) -> str:
    return "send what was verified"


@describe_ask.register
def _(ask: Both) -> str:
    return f"at once {describe_ask(ask.a)}; and {describe_ask(ask.b)}"


# --- each kind of watch


@singledispatch
def describe_watch(watch: Watch) -> str:
    """Return how a draft is watched, in words; empty if nothing depends on it."""
    return f"watched ({type(watch).__name__})"


@describe_watch.register
def _(watch: ConfidenceWatch) -> str:
    how = " sentences" if watch.release == "splice" else ""
    rules = [
        watch.commit is not None and f"commit{how} at confidence >= {watch.commit:g}",
        watch.give_up is not None and f"give up under {watch.give_up:g}",
        f"accept at >= {watch.accept:g}",
        watch.hold_below > watch.accept and f"have it judged under {watch.hold_below:g}",
    ]
    return f"watched: {', '.join(rule for rule in rules if rule)}"


@describe_watch.register
def _(watch: HeldWatch) -> str:
    return "held to its end"


@describe_watch.register
def _(watch: ObservingWatch) -> str:
    return ""
