"""What a policy would do: its router's plan, walked through what may come of each ask. Nothing is asked."""

from collections.abc import Iterator, Sequence
from functools import singledispatch
from typing import NamedTuple

from routers.plan import (
    Answer,
    Ask,
    Both,
    Draft,
    Generate,
    Judge,
    Judged,
    Outcome,
    Raced,
    Reason,
    Request,
    Router,
    Tier,
    Unavailable,
    Verdict,
    Watch,
)
from routers.watch import ConfidenceWatch, ObservingWatch

DEPTH = 5
"""Asks one after the other that are walked: what comes after is left open."""


FAILURES = {"unavailable": "down", "prompt too long": "context", "request rejected": "rejected"}
"""What may befall a call before anything was written: as it is told, and by the code of one such failure."""


class Step(NamedTuple):
    """An ask and what follows it by what may come of it, or an end."""

    text: str
    branches: tuple["Branch", ...] = ()


class Branch(NamedTuple):
    """`when` holds what may come of the ask before that leads to the same step."""

    when: tuple[str, ...]
    then: Step


class Hypothesis(NamedTuple):
    """What may come of an ask: an outcome that a plan is sent, or the failure that is thrown into it."""

    when: str
    outcome: Outcome | Unavailable


def explained(router: Router, request: Request, depth: int = DEPTH) -> Step:
    """The tree of what the router's plan does with the request."""
    return _step(router, request, (), depth)


def lines(step: Step, lead: str = "", indent: str = "") -> Iterator[str]:
    """The tree as text, a line a step."""
    yield f"{indent}{lead}{step.text}"
    for branch in step.branches:
        *first, last = branch.when
        when = f"{', '.join(first)} or {last}" if first else last
        yield from lines(branch.then, f"if {when}: ", f"{indent}  ")


def _step(router: Router, request: Request, outcomes: tuple[Outcome | Unavailable, ...], depth: int) -> Step:
    """A plan can't be forked, so each step runs it anew through the outcomes that lead there."""
    try:
        ask = _asked(router, request, outcomes)
    except StopIteration as settled:
        return Step(_served(settled.value))
    except Unavailable as lost:
        own = bool(outcomes) and lost is outcomes[-1]
        return Step("fail with its error" if own else f"fail with the {lost.tier}'s error ({lost.why})")
    if len(outcomes) == depth:
        return Step("and so on")
    branches: dict[Step, list[str]] = {}
    for when, outcome in hypotheses(ask, request):
        branches.setdefault(_step(router, request, (*outcomes, outcome), depth), []).append(when)
    return Step(described(ask), tuple(Branch(tuple(when), then) for then, when in branches.items()))


def _asked(router: Router, request: Request, outcomes: Sequence[Outcome | Unavailable]) -> Ask:
    """What the plan asks once its asks have ended so. Raises StopIteration where it has settled."""
    plan = router.plan(request)
    ask = next(plan)
    for outcome in outcomes:
        ask = plan.throw(outcome) if isinstance(outcome, Unavailable) else plan.send(outcome)
    return ask


def _served(answer: Answer) -> str:
    parts = "" if len(answer.parts) == 1 else f", in {len(answer.parts)} parts"
    return f"serve the {answer.route} answer{parts} (reason {answer.reason})"


# --- each kind of ask: how it is told, and what may come of it


@singledispatch
def described(ask: Ask) -> str:
    raise TypeError(f"{type(ask).__name__} is no ask that can be told")


@singledispatch
def hypotheses(ask: Ask, request: Request) -> list[Hypothesis]:
    raise TypeError(f"what may come of {type(ask).__name__} is not known")


@described.register
def _(ask: Generate) -> str:
    because = "" if ask.because is Reason.POLICY else f" ({ask.because})"
    parts = [
        f"ask the {ask.tier}{because}",
        "to go on from what was delivered" if ask.prefix else "",
        told(ask.watch()) if ask.watch else "",
        f"waiting up to {ask.patience:g} s for its restart" if ask.patience else "",
    ]
    return ", ".join(part for part in parts if part)


@hypotheses.register
def _(ask: Generate, request: Request) -> list[Hypothesis]:
    if ask.tier not in request.tiers:
        return [Hypothesis(f"no {ask.tier} configured", Unavailable("not_configured", ask.tier))]
    found = _written(ask.tier, request) if ask.watch is None else drafts(ask.watch(), ask.tier, request)
    return [*found, *(Hypothesis(when, Unavailable(why, ask.tier)) for when, why in FAILURES.items())]


@described.register
def _(ask: Judge) -> str:
    return f"have the {ask.tier} judge the draft ({' or '.join(ask.labels)})"


@hypotheses.register
def _(ask: Judge, request: Request) -> list[Hypothesis]:
    said = [
        Hypothesis(label, Judged({other: float(other == label) for other in ask.labels}, 1.0))
        for label in ask.labels
    ]
    return [*said, Hypothesis("no judgement", Unavailable("down", ask.tier))]


@described.register
def _(ask: Both) -> str:
    return f"at once {described(ask.a)}; and {described(ask.b)}"


@hypotheses.register
def _(ask: Both, request: Request) -> list[Hypothesis]:
    """Every end of the first leg while the second one is slow or fails, and the second one's victory."""
    slow = Draft(ask.b.tier, verdict=Verdict.CONTINUE)
    gone = Unavailable("down", ask.b.tier)
    found = [
        Hypothesis(f"the {ask.b.tier} first", Raced(Draft(ask.a.tier, verdict=Verdict.CONTINUE), _won(ask.b)))
    ]
    for when, outcome in hypotheses(ask.a, request):
        if not isinstance(outcome, Draft | Unavailable):
            continue
        commits = isinstance(outcome, Draft) and (outcome.verdict is Verdict.COMMIT or outcome.kept > 0)
        begun = isinstance(outcome, Unavailable) and outcome.partial is not None
        if commits or begun:
            found.append(Hypothesis(f"the {ask.a.tier} {when} first", Raced(outcome, slow)))
        else:
            found.append(Hypothesis(f"the {ask.a.tier} {when}", Raced(outcome, _won(ask.b))))
            found.append(
                Hypothesis(f"the {ask.a.tier} {when}, the {ask.b.tier} unavailable", Raced(outcome, gone))
            )
    return found


def _won(ask: Generate) -> Draft:
    return _draft(ask.tier, Verdict.COMMIT)


# --- each kind of watch: how it is told, and the drafts that it may end in


@singledispatch
def told(watch: Watch) -> str:
    return f"watched ({type(watch).__name__})"


@singledispatch
def drafts(watch: Watch, tier: Tier, request: Request) -> list[Hypothesis]:
    return [
        Hypothesis("accepted", _draft(tier, Verdict.COMMIT)),
        Hypothesis("not accepted", _draft(tier, Verdict.GIVE_UP)),
        Hypothesis("stopped early", _draft(tier, Verdict.GIVE_UP, finish=None)),
    ]


@told.register
def _(watch: ConfidenceWatch) -> str:
    rules = [
        watch.commit is not None and f"commit at confidence >= {watch.commit:g}",
        watch.give_up is not None and f"give up under {watch.give_up:g}",
        f"accept at >= {watch.accept:g}",
    ]
    return f"watched: {', '.join(rule for rule in rules if rule)}"


@drafts.register
def _(watch: ConfidenceWatch, tier: Tier, request: Request) -> list[Hypothesis]:
    found: list[Hypothesis] = []
    if watch.commit is not None:
        found = [Hypothesis("committed", _draft(tier, Verdict.COMMIT, Reason.COMMITTED)), _broken_off(tier)]
    if watch.commit is not None and watch.release == "splice":
        begun = _draft(tier, Verdict.GIVE_UP, Reason.GAVE_UP, finish=None)._replace(kept=1, kept_text="...")
        found.append(Hypothesis("committed a sentence, then gave up", begun))
    accepted = Verdict.COMMIT if watch.accept >= watch.judged_below else Verdict.CONTINUE
    found.append(Hypothesis("confident", _draft(tier, accepted, Reason.CONFIDENT)))
    found.append(Hypothesis("low_confidence", _draft(tier, Verdict.GIVE_UP, Reason.LOW_CONFIDENCE)))
    if watch.give_up is not None:
        found.append(Hypothesis("gave_up", _draft(tier, Verdict.GIVE_UP, Reason.GAVE_UP, finish=None)))
    return found


@told.register
def _(watch: ObservingWatch) -> str:
    return ""


@drafts.register
def _(watch: ObservingWatch, tier: Tier, request: Request) -> list[Hypothesis]:
    return _written(tier, request)


def _written(tier: Tier, request: Request) -> list[Hypothesis]:
    """Of what flows as it is written."""
    answered = Hypothesis("answered", _draft(tier, Verdict.COMMIT))
    return [answered, _broken_off(tier)] if request.stream else [answered]


def _broken_off(tier: Tier) -> Hypothesis:
    begun = _draft(tier, Verdict.CONTINUE, finish=None)
    return Hypothesis("broken off midway", Unavailable("lost", tier, partial=begun))


def _draft(tier: Tier, verdict: Verdict, reason: Reason | None = None, finish: str | None = "stop") -> Draft:
    return Draft(tier, "...", verdict=verdict, reason=reason, finish=finish)
